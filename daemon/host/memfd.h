#ifndef WEIGHTD_DAEMON_HOST_MEMFD_H_
#define WEIGHTD_DAEMON_HOST_MEMFD_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/fd.h"
#include "common/mapping.h"

// Memory with a descriptor, as segments are made of. Thread-safe.

namespace weightd::host {

// Empty; may be sealed. `label` names it in /proc and holds no secret.
absl::StatusOr<Fd> CreateMemfd(absl::string_view label);

// A memfd mapped writable. `huge_pages`: whether its pages are huge.
struct WritableMemory {
  Mapping mapping;
  bool huge_pages = false;
};

// Makes the memfd `bytes` long, whole pages, and maps it; asks for huge pages if `huge_pages`.
absl::StatusOr<WritableMemory> ResizeAndMap(const Fd& memfd, uint64_t bytes, bool huge_pages);

// Makes these pages present, zeroed where they weren't. Does nothing before Linux 5.14.
absl::Status MakePresent(absl::Span<std::byte> pages);

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_MEMFD_H_
