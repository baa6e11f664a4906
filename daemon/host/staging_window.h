#ifndef WEIGHTD_DAEMON_HOST_STAGING_WINDOW_H_
#define WEIGHTD_DAEMON_HOST_STAGING_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "common/fd.h"
#include "daemon/host/host_tier.h"

namespace weightd::host {

// A window of memory that slides over a stream of bytes which may be far larger. The stream has
// addresses of its own: its byte `p` lies at begin() + p, and may be touched while window() has it.
// The memory behind is a memfd of bytes() bytes that is used again and again: the stream's byte `p`
// is the memfd's byte p % bytes(). Addresses outside of the window fault or, within bytes() of it,
// are those of other bytes.
//
// One thread slides it; others touch what is inside meanwhile. Dropping it gives everything back.
class StagingWindow {
 public:
  // `bytes` are whole pages, at least one, and at most the reservation's. `label` names it in /proc
  // and holds no secret.
  static absl::StatusOr<StagingWindow> Create(absl::string_view label, uint64_t stream_bytes,
                                              uint64_t bytes, Reservation reservation);
  ~StagingWindow();
  StagingWindow(StagingWindow&& other) noexcept;
  StagingWindow& operator=(StagingWindow&&) = delete;

  std::byte* begin() const { return begin_; }
  uint64_t bytes() const { return bytes_; }
  // Of the stream.
  ByteRange window() const { return {at_, at_ + bytes_}; }

  // Makes these bytes of the memory present (whole pages, inside bytes()): the window is still at
  // the stream's beginning.
  absl::Status Populate(ByteRange range);

  // Lets go of what lies before `position`, which is in the window or at its end. Nobody touches
  // that any more, no device either.
  absl::Status SlideTo(uint64_t position);

  // A descriptor of the memory that can be mapped writable, as devices want it that pin it.
  absl::StatusOr<Fd> OpenForDevice() const { return memfd_.Duplicate(); }

 private:
  StagingWindow(uint64_t bytes, Reservation reservation, Fd memfd)
      : bytes_(bytes), reservation_(std::move(reservation)), memfd_(std::move(memfd)) {}

  // Of as many addresses as the stream has; nothing is behind them yet.
  absl::Status ReserveAddresses(uint64_t stream_bytes);
  // The addresses of a round: as many bytes of the stream as the memory has, less in the last.
  ByteRange Round(uint64_t round) const;
  absl::Status MapRound(uint64_t round);
  absl::Status UnmapRound(uint64_t round);

  uint64_t bytes_;
  // Declared, and so freed, before the memory: the memory goes first.
  Reservation reservation_;
  Fd memfd_;
  // What was mapped to get addresses, and how much of it.
  void* reserved_ = nullptr;
  uint64_t reserved_bytes_ = 0;
  std::byte* begin_ = nullptr;
  uint64_t stream_bytes_ = 0;
  uint64_t at_ = 0;
  // Those that are mapped: half-open, at most two.
  ByteRange rounds_;
};

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_STAGING_WINDOW_H_
