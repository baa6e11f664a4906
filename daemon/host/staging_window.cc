#include "daemon/host/staging_window.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/status.h"
#include "daemon/host/memfd.h"
#include "daemon/host/ready_memory.h"

namespace weightd::host {

absl::StatusOr<StagingWindow> StagingWindow::Create(absl::string_view label, uint64_t stream_bytes,
                                                    uint64_t bytes, Reservation reservation) {
  if (bytes == 0 || bytes % kPageBytes != 0 || bytes > reservation.bytes()) {
    return Error(
        Reason::kInternal,
        absl::StrCat("a window of ", bytes, " bytes in a reservation of ", reservation.bytes()));
  }
  Fd memfd;
  if (reservation.ready_ != nullptr) {
    memfd = std::move(*std::exchange(reservation.ready_, nullptr)).Take();
  } else {
    ASSIGN_OR_RETURN(memfd, CreateMemfd(label));
  }
  if (ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0) {
    return ErrnoError(errno, absl::StrCat("size a memfd to ", bytes, " bytes"));
  }
  StagingWindow window(bytes, std::move(reservation), std::move(memfd));
  RETURN_IF_ERROR(window.ReserveAddresses(stream_bytes));
  RETURN_IF_ERROR(window.MapRound(0));
  window.rounds_ = {0, 1};
  return window;
}

StagingWindow::StagingWindow(StagingWindow&& other) noexcept
    : bytes_(other.bytes_),
      reservation_(std::move(other.reservation_)),
      memfd_(std::move(other.memfd_)),
      reserved_(std::exchange(other.reserved_, nullptr)),
      reserved_bytes_(std::exchange(other.reserved_bytes_, 0)),
      begin_(other.begin_),
      stream_bytes_(other.stream_bytes_),
      at_(other.at_),
      rounds_(other.rounds_) {}

StagingWindow::~StagingWindow() {
  if (reserved_ != nullptr) {
    munmap(reserved_, reserved_bytes_);
  }
}

absl::Status StagingWindow::ReserveAddresses(uint64_t stream_bytes) {
  stream_bytes_ = std::max(AlignUp(stream_bytes, kPageBytes), kPageBytes);
  // Congruent to the memory's offsets modulo the huge pages' size, so that those can be mapped
  // whole.
  const uint64_t wanted = stream_bytes_ + kHugePageBytes;
  void* const reserved =
      mmap(nullptr, wanted, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return ErrnoError(errno, absl::StrCat("reserve ", wanted, " bytes of addresses"));
  }
  reserved_ = reserved;
  reserved_bytes_ = wanted;
  const auto address = reinterpret_cast<uintptr_t>(reserved);
  begin_ = static_cast<std::byte*>(reserved) + (AlignUp(address, kHugePageBytes) - address);
  return absl::OkStatus();
}

ByteRange StagingWindow::Round(uint64_t round) const {
  return {std::min(round * bytes_, stream_bytes_), std::min((round + 1) * bytes_, stream_bytes_)};
}

absl::Status StagingWindow::MapRound(uint64_t round) {
  const ByteRange range = Round(round);
  if (range.empty()) {
    return absl::OkStatus();
  }
  void* const address = begin_ + range.begin;
  if (mmap(address, range.size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd_.get(),
           0) == MAP_FAILED) {
    return ErrnoError(errno, "map a window of staging memory");
  }
  if (reservation_.tier_->options().huge_pages) {
    madvise(address, range.size(), MADV_HUGEPAGE);  // refused by kernels that don't have them
  }
  return absl::OkStatus();
}

absl::Status StagingWindow::UnmapRound(uint64_t round) {
  const ByteRange range = Round(round);
  // The addresses stay ours; their page tables go.
  if (!range.empty() &&
      mmap(begin_ + range.begin, range.size(), PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
    return ErrnoError(errno, "unmap a window of staging memory");
  }
  return absl::OkStatus();
}

absl::Status StagingWindow::Populate(ByteRange range) {
  const uint64_t end = std::min(range.end, std::min(bytes_, stream_bytes_));
  if (range.begin >= end) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(MakePresent({begin_ + range.begin, end - range.begin}));
  reservation_.tier_->CountPopulated(reservation_, end - range.begin);
  return absl::OkStatus();
}

absl::Status StagingWindow::SlideTo(uint64_t position) {
  if (position < at_ || position > at_ + bytes_) {
    return Error(Reason::kInternal, "a window that slides too far");
  }
  at_ = position;
  const ByteRange wanted = {at_ / bytes_, (at_ + bytes_ - 1) / bytes_ + 1};
  for (; rounds_.begin < wanted.begin; ++rounds_.begin) {
    RETURN_IF_ERROR(UnmapRound(rounds_.begin));
  }
  for (; rounds_.end < wanted.end; ++rounds_.end) {
    RETURN_IF_ERROR(MapRound(rounds_.end));
  }
  return absl::OkStatus();
}

}  // namespace weightd::host
