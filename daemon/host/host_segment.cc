#include "daemon/host/host_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/host/holders.h"
#include "daemon/host/kept_memory.h"
#include "daemon/host/ready_memory.h"

namespace weightd::host {
namespace {

// Takes a moment, even where pages are small.
constexpr uint64_t kLockStep = 256 << 20;

// Sums `field` over the lines of /proc/self/smaps that describe [begin, end).
absl::StatusOr<uint64_t> SumSmapsField(uintptr_t begin, uintptr_t end,
                                       std::initializer_list<absl::string_view> fields) {
  std::ifstream smaps("/proc/self/smaps");
  if (!smaps) {
    return Error(Reason::kInternal, "/proc/self/smaps can't be read");
  }
  uint64_t total = 0;
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    // A mapping's first line begins with its addresses, "7f00-7f80 r--s"; fields follow as "Name:
    // 12 kB".
    uint64_t map_begin = 0;
    uint64_t map_end = 0;
    const size_t dash = line.find('-');
    const size_t space = line.find(' ');
    if (dash < space && space != std::string::npos &&
        absl::SimpleHexAtoi(absl::string_view(line).substr(0, dash), &map_begin) &&
        absl::SimpleHexAtoi(absl::string_view(line).substr(dash + 1, space - dash - 1), &map_end)) {
      inside = begin <= map_begin && map_end <= end;
      continue;
    }
    for (const absl::string_view field : fields) {
      absl::string_view rest = line;
      uint64_t kibibytes = 0;
      if (inside && absl::ConsumePrefix(&rest, field) && absl::ConsumeSuffix(&rest, " kB") &&
          absl::SimpleAtoi(rest, &kibibytes)) {
        total += kibibytes * 1024;
      }
    }
  }
  return total;
}

}  // namespace

WritableSegment::WritableSegment(std::string label, Fd memfd, WritableMemory memory,
                                 Reservation reservation)
    : label_(std::move(label)),
      reservation_(std::move(reservation)),
      memfd_(std::move(memfd)),
      mapping_(std::move(memory.mapping)),
      huge_pages_(memory.huge_pages) {}

WritableSegment::~WritableSegment() = default;

absl::StatusOr<WritableSegment> WritableSegment::Create(absl::string_view label, uint64_t size,
                                                        Reservation reservation) {
  if (size == 0 || size > reservation.bytes()) {
    return Error(
        Reason::kInternal,
        absl::StrCat("a segment of ", size, " bytes in a reservation of ", reservation.bytes()));
  }
  const uint64_t rounded = AlignUp(size, kPageBytes);
  Fd memfd;
  if (reservation.ready_ != nullptr) {
    memfd = std::move(*std::exchange(reservation.ready_, nullptr)).Take();
  } else {
    ASSIGN_OR_RETURN(memfd, CreateMemfd(label));
  }
  ASSIGN_OR_RETURN(WritableMemory memory,
                   ResizeAndMap(memfd, rounded, reservation.tier_->options().huge_pages));
  return WritableSegment(std::string(label), std::move(memfd), std::move(memory),
                         std::move(reservation));
}

absl::Status WritableSegment::Populate(ByteRange range) {
  const uint64_t begin = AlignDown(range.begin, kPageBytes);
  const uint64_t end = std::min<uint64_t>(AlignUp(range.end, kPageBytes), mapping_.size());
  if (begin >= end) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(MakePresent(bytes().subspan(begin, end - begin)));
  CountWritten(end - begin);
  return absl::OkStatus();
}

void WritableSegment::CountWritten(uint64_t bytes) {
  reservation_.tier_->CountPopulated(reservation_, bytes);
}

absl::StatusOr<std::shared_ptr<HostSegment>> WritableSegment::Seal() && {
  const size_t size = mapping_.size();
  mapping_.Reset();
  if (fcntl(memfd_.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
      0) {
    // EBUSY: somebody maps it writable or I/O has its pages pinned. Never by input from outside, so
    // our own bug.
    const absl::Status error = ErrnoError(errno, "seal a segment");
    return Error(Reason::kInternal, error.message());
  }
  // Through the probe, not the writable descriptor: kernels before 6.7 refuse to map that one once
  // it is sealed, and mappings through the probe don't count as others.
  ASSIGN_OR_RETURN(Fd probe, memfd_.ReopenReadOnly());
  ASSIGN_OR_RETURN(Mapping mapping,
                   Mapping::Map(probe.get(), size, Mapping::Access::kSharedReadOnly));
  memfd_.Reset();
  std::shared_ptr<HostSegment> sealed(new HostSegment(std::move(label_), std::move(probe),
                                                      std::move(mapping), std::move(reservation_)));
  sealed->Lock(size);
  return sealed;
}

absl::StatusOr<std::shared_ptr<HostSegment>> HostSegment::Adopt(absl::string_view label, Fd kept,
                                                                uint64_t size,
                                                                Reservation reservation,
                                                                std::vector<std::string> holders) {
  RETURN_IF_ERROR(CheckSealed(kept, size));
  if (size > reservation.bytes()) {
    return Error(
        Reason::kInternal,
        absl::StrCat("a segment of ", size, " bytes in a reservation of ", reservation.bytes()));
  }
  // A daemon that died while it asked who holds the segment left its lease on the open file.
  fcntl(kept.get(), F_SETLEASE, F_UNLCK);
  ASSIGN_OR_RETURN(Mapping mapping,
                   Mapping::Map(kept.get(), size, Mapping::Access::kSharedReadOnly));
  std::shared_ptr<HostSegment> segment(new HostSegment(std::string(label), std::move(kept),
                                                       std::move(mapping), std::move(reservation)));
  absl::MutexLock lock(&segment->mutex_);
  segment->holders_.insert(std::make_move_iterator(holders.begin()),
                           std::make_move_iterator(holders.end()));
  return segment;
}

HostSegment::HostSegment(std::string label, Fd probe, Mapping mapping, Reservation reservation)
    : label_(std::move(label)),
      reservation_(std::move(reservation)),
      probe_(std::move(probe)),
      mapping_(std::move(mapping)) {
  reservation_.tier_->Recharge(reservation_, Charge::kResident);
}

bool HostSegment::Lock(uint64_t bytes) {
  if (!reservation_.tier_->options().mlock || mlock(mapping_.data() + locked_bytes_, bytes) != 0) {
    return false;
  }
  locked_bytes_ += bytes;
  return true;
}

bool HostSegment::LockMore() {
  const uint64_t step = std::min<uint64_t>(kLockStep, mapping_.size() - locked_bytes_);
  return step > 0 && Lock(step) && !locked();
}

HostSegment::~HostSegment() {
  if (!host::HeldByOthers(probe_)) {
    tied_.reset();  // who lets go of it is done before we are: then the memory is free below
  }
  mapping_.Reset();
  DrainingSegment draining{.label = label_, .bytes = reservation_.bytes(), .holders = {}};
  {
    absl::MutexLock lock(&mutex_);
    draining.holders.assign(holders_.begin(), holders_.end());
  }
  std::sort(draining.holders.begin(), draining.holders.end());
  const std::shared_ptr<HostTier> tier = reservation_.tier_;
  tier->Retire({std::move(draining), std::move(probe_), std::move(tied_)}, std::move(reservation_));
}

absl::StatusOr<Fd> HostSegment::OpenForClient(absl::string_view holder) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Fd opened, probe_.ReopenReadOnly());
  holders_.emplace(holder);
  return opened;
}

bool HostSegment::GivenTo(absl::string_view holder) const {
  absl::MutexLock lock(&mutex_);
  return holders_.contains(holder);
}

bool HostSegment::HeldByOthers() const {
  absl::MutexLock lock(&mutex_);
  return host::HeldByOthers(probe_);
}

absl::StatusOr<double> HostSegment::HugePageFraction() const {
  // Only pages that are mapped tell their size. A mapping of its own, so that what is touched here
  // is soon forgotten.
  ASSIGN_OR_RETURN(const Mapping mapping,
                   Mapping::Map(probe_.get(), size(), Mapping::Access::kSharedReadOnly));
  for (uint64_t offset = 0; offset < mapping.size(); offset += kHugePageBytes) {
    [[maybe_unused]] const std::byte touched =
        *const_cast<const volatile std::byte*>(mapping.data() + offset);
  }
  const auto begin = reinterpret_cast<uintptr_t>(mapping.data());
  ASSIGN_OR_RETURN(const uint64_t huge,
                   SumSmapsField(begin, begin + mapping.size(),
                                 {"ShmemPmdMapped:", "FilePmdMapped:", "Shared_Hugetlb:"}));
  return static_cast<double>(huge) / static_cast<double>(mapping.size());
}

}  // namespace weightd::host
