#include "daemon/host/memfd.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/huge_pages.h"
#include "common/status.h"

// Newer than Debian 12's headers.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace weightd::host {
namespace {

// memfd_create(2): 249 bytes without the terminating NUL.
constexpr size_t kMaxMemfdName = 249;

}  // namespace

absl::StatusOr<Fd> CreateMemfd(absl::string_view label) {
  const std::string name = absl::StrCat("weightd:", label).substr(0, kMaxMemfdName);
  constexpr unsigned int kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  Fd memfd(memfd_create(name.c_str(), kFlags | MFD_NOEXEC_SEAL));
  if (!memfd.valid() && errno == EINVAL) {  // before Linux 6.3
    memfd = Fd(memfd_create(name.c_str(), kFlags));
  }
  if (!memfd.valid()) {
    return ErrnoError(errno, "create a memfd");
  }
  // Other users can't even open it for writing through /proc; root can, and is stopped by the
  // seals.
  if (fchmod(memfd.get(), 0444) != 0) {
    return ErrnoError(errno, "make a memfd read-only");
  }
  return memfd;
}

absl::StatusOr<WritableMemory> ResizeAndMap(const Fd& memfd, uint64_t bytes, bool huge_pages) {
  if (ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0) {
    return ErrnoError(errno, absl::StrCat("size a memfd to ", bytes, " bytes"));
  }
  WritableMemory memory;
  ASSIGN_OR_RETURN(memory.mapping,
                   Mapping::Map(memfd.get(), bytes, Mapping::Access::kSharedWritable));
  // madvise is refused by kernels without transparent huge pages: then they are small.
  memory.huge_pages = huge_pages &&
                      madvise(memory.mapping.data(), memory.mapping.size(), MADV_HUGEPAGE) == 0 &&
                      HugePagesAllowed(ReadShmemEnabled());
  return memory;
}

absl::Status MakePresent(absl::Span<std::byte> pages) {
  while (madvise(pages.data(), pages.size(), MADV_POPULATE_WRITE) != 0) {
    if (errno == EINVAL) {  // before Linux 5.14: pages come with the bytes
      return absl::OkStatus();
    }
    if (errno != EINTR && errno != EAGAIN) {
      return ErrnoError(errno, "allocate pages of a segment");
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::host
