#include "daemon/host/ready_memory.h"

#include <algorithm>
#include <utility>

#include "common/byte_range.h"
#include "common/status.h"

namespace weightd::host {

absl::StatusOr<ReadyMemory> ReadyMemory::Create(uint64_t bytes, bool huge_pages) {
  ASSIGN_OR_RETURN(Fd memfd, CreateMemfd("ready"));
  ASSIGN_OR_RETURN(WritableMemory memory, ResizeAndMap(memfd, bytes, huge_pages));
  return ReadyMemory(std::move(memfd), std::move(memory));
}

ReadyMemory::ReadyMemory(Fd memfd, WritableMemory memory)
    : memfd_(std::move(memfd)), memory_(std::move(memory)) {}

absl::Status ReadyMemory::Step() {
  const uint64_t size = std::min(bytes() - present_, kHugePageBytes);
  RETURN_IF_ERROR(MakePresent(memory_.mapping.span().subspan(present_, size)));
  present_ += size;
  return absl::OkStatus();
}

absl::Status ReadyMemory::Shrink(uint64_t bytes) {
  const bool huge_pages = memory_.huge_pages;
  memory_.mapping.Reset();
  ASSIGN_OR_RETURN(memory_, ResizeAndMap(memfd_, bytes, huge_pages));
  present_ = std::min(present_, bytes);
  return absl::OkStatus();
}

Fd ReadyMemory::Take() && {
  memory_.mapping.Reset();
  return std::move(memfd_);
}

}  // namespace weightd::host
