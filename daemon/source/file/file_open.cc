#include "daemon/source/file/file_open.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/byte_range.h"
#include "common/status.h"

namespace weightd::source {
namespace {

// RESOLVE_BENEATH gives EAGAIN when something on the way is renamed meanwhile.
constexpr int kOpenTries = 16;

// The kernel's struct has the fields on direct I/O that glibc's lacks, and the two can't be
// included together.
absl::StatusOr<struct statx> Statx(int fd, absl::string_view name) {
  struct statx result = {};
  if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_DIOALIGN, &result) != 0) {
    return ErrnoError(errno, name);
  }
  return result;
}

int OpenAt(int folder, const std::string& path, uint64_t resolve) {
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = resolve;
  int fd = -1;
  for (int i = 0; i < kOpenTries; ++i) {
    fd = static_cast<int>(syscall(SYS_openat2, folder, path.c_str(), &how, sizeof(how)));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
      break;
    }
  }
  return fd;
}

absl::Status Refused(const Uri& uri) {
  return Error(Reason::kAddressRefused,
               absl::StrCat(uri.Redacted(), ": not below a folder that may be read"),
               "add its folder to sources.file.roots");
}

// EXDEV is how the kernel says that a path leads out; ELOOP that it goes through a magic link (or
// in circles).
absl::Status OpenError(int error_number, const Uri& uri) {
  if (error_number == EXDEV || error_number == ELOOP) {
    return Refused(uri);
  }
  return ErrnoError(error_number, uri.Redacted());
}

uint32_t DirectAlignment(const struct statx& about, int fd) {
  struct statfs file_system = {};
  if (fstatfs(fd, &file_system) != 0 || file_system.f_type == TMPFS_MAGIC) {
    return 1;
  }
  if ((about.stx_mask & STATX_DIOALIGN) == 0) {
    return kPageBytes;
  }
  if (about.stx_dio_offset_align == 0) {
    return 1;
  }
  // Blocks of a page keep reads of parts of one block rare.
  return std::max<uint32_t>({kPageBytes, about.stx_dio_offset_align, about.stx_dio_mem_align});
}

// Some file systems take O_DIRECT when a file is opened and refuse each read.
bool DirectReadWorks(int fd, uint32_t alignment) {
  const std::unique_ptr<void, decltype(&std::free)> block(std::aligned_alloc(alignment, alignment),
                                                          &std::free);
  return block != nullptr && pread(fd, block.get(), alignment, 0) >= 0;
}

Fd Reopen(const Fd& located, int flags) {
  return Fd(open(absl::StrCat("/proc/self/fd/", located.get()).c_str(),
                 O_RDONLY | O_CLOEXEC | O_NOCTTY | flags));
}

}  // namespace

absl::StatusOr<Fd> Locate(const Uri& uri, absl::Span<const std::string> roots,
                          const ReadPolicy& policy) {
  const std::string path = uri.DecodedPath();
  if (policy.any_path) {
    Fd found(OpenAt(AT_FDCWD, path, RESOLVE_NO_MAGICLINKS));
    return found.valid() ? absl::StatusOr<Fd>(std::move(found)) : OpenError(errno, uri);
  }
  absl::Status failure = Refused(uri);
  for (const std::string& root : roots) {
    if (path != root && !absl::StartsWith(path, absl::StrCat(root, "/"))) {
      continue;
    }
    const Fd folder(open(absl::StrCat(root, "/").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder.valid()) {
      failure = ErrnoError(errno, uri.Redacted());
      continue;
    }
    const std::string below = absl::StrCat(".", path.substr(root.size()));
    Fd found(OpenAt(folder.get(), below, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS));
    if (found.valid()) {
      return found;
    }
    failure = OpenError(errno, uri);
  }
  return failure;
}

absl::StatusOr<ObjectVersion> VersionOf(const Fd& located, const Uri& uri) {
  ASSIGN_OR_RETURN(const struct statx about, Statx(located.get(), uri.Redacted()));
  if ((about.stx_mode & S_IFMT) != S_IFREG) {
    return Error(Reason::kModelNotFound, absl::StrCat(uri.Redacted(), ": not a regular file"));
  }
  ObjectVersion version;
  version.uri = uri;
  version.size = about.stx_size;
  version.strong = true;
  version.validator =
      absl::StrFormat("%d-%d.%09d-%d.%09d-%d-%d:%d", about.stx_size, about.stx_mtime.tv_sec,
                      about.stx_mtime.tv_nsec, about.stx_ctime.tv_sec, about.stx_ctime.tv_nsec,
                      about.stx_ino, about.stx_dev_major, about.stx_dev_minor);
  return version;
}

absl::StatusOr<OpenedFile> OpenLocated(const Fd& located, const Uri& uri, bool direct_io) {
  OpenedFile file;
  file.name = uri.Redacted();
  ASSIGN_OR_RETURN(const struct statx about, Statx(located.get(), file.name));
  const uint32_t alignment = direct_io ? DirectAlignment(about, located.get()) : 1;
  if (alignment > 1 && alignment <= kStepBytes) {
    file.fd = Reopen(located, O_DIRECT);
    if (file.fd.valid() && DirectReadWorks(file.fd.get(), alignment)) {
      file.alignment = alignment;
      return file;
    }
  }
  file.fd = Reopen(located, 0);
  if (!file.fd.valid()) {
    return ErrnoError(errno, file.name);
  }
  return file;
}

absl::Status CheckUnchanged(const Fd& file, const ObjectVersion& version) {
  ASSIGN_OR_RETURN(const ObjectVersion now, VersionOf(file, version.uri));
  if (now.validator != version.validator) {
    return Error(Reason::kSourceChanged,
                 absl::StrCat(version.uri.Redacted(), ": the file changed since it was found"));
  }
  return absl::OkStatus();
}

}  // namespace weightd::source
