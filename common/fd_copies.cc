#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/fd.h"
#include "common/status.h"

// Apart from fd.cc, so that a program that only owns descriptors links nothing of Abseil.

namespace weightd {

absl::StatusOr<Fd> Fd::Duplicate() const {
  Fd copy(fcntl(fd_, F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) {
    return ErrnoError(errno, "duplicate a descriptor");
  }
  return copy;
}

absl::StatusOr<Fd> Fd::ReopenReadOnly() const {
  Fd reopened(open(absl::StrCat("/proc/self/fd/", fd_).c_str(), O_RDONLY | O_CLOEXEC));
  if (!reopened.valid()) {
    return ErrnoError(errno, "re-open a descriptor read-only");
  }
  return reopened;
}

}  // namespace weightd
