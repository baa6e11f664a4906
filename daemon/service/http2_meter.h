#ifndef WEIGHTD_DAEMON_SERVICE_HTTP2_METER_H_
#define WEIGHTD_DAEMON_SERVICE_HTTP2_METER_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace weightd::service {

// Reads along what a client sends over one HTTP/2 connection (RFC 9113), and says when it is more
// than gRPC would hold within bounds. gRPC 1.51 keeps a header block in memory until its end,
// whatever its length; holds a client to the number of streams only once that acknowledged it; and
// works on calls that were reset at once. Looks at the heads of frames and at nothing in them: what
// makes no sense is gRPC's to refuse. Not thread-safe.
class Http2Meter {
 public:
  // Of one header block, with all frames that continue it. A call's headers are a few hundred
  // bytes.
  static constexpr size_t kMaxHeaderBlockBytes = 64 << 10;
  // Frames that continue a block, which may be empty.
  static constexpr uint32_t kMaxContinuations = 32;
  // Resets at once, and what one second adds to those left.
  static constexpr double kResets = 1000;
  static constexpr double kResetsPerSecond = 100;

  // `unacknowledged_streams`: opened before the client acknowledged the settings that it was sent.
  Http2Meter(uint32_t unacknowledged_streams, absl::Duration now)
      : streams_left_(unacknowledged_streams), counted_at_(now) {}

  // What was received next, at `now` (since any one moment). gRPC takes any acknowledgement, but
  // one that came before it sent settings (`settings_sent`) has nothing in force. False if the
  // connection is to end, and from then on.
  bool Count(absl::string_view bytes, absl::Duration now, bool settings_sent);

 private:
  static constexpr size_t kHeadBytes = 9;

  bool CountFrame(absl::Duration now, bool settings_sent);
  bool CountStream();
  bool CountReset(absl::Duration now);

  size_t preface_left_ = 24;
  std::array<char, kHeadBytes> head_ = {};
  size_t head_bytes_ = 0;
  size_t payload_left_ = 0;
  size_t block_bytes_ = 0;
  uint32_t continuations_ = 0;
  bool acknowledged_ = false;
  uint32_t streams_left_;
  double resets_left_ = kResets;
  absl::Duration counted_at_;
  bool over_ = false;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_HTTP2_METER_H_
