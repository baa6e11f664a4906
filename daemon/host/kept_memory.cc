#include "daemon/host/kept_memory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/status.h"

namespace weightd::host {
namespace {

constexpr int kLengthSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

absl::Status Refused(absl::string_view why) { return Error(Reason::kVerificationFailed, why); }

struct Memfd {
  uint64_t bytes = 0;
  int seals = 0;
};

// Of a memfd that is ours and was opened with `access`.
absl::StatusOr<Memfd> Look(const Fd& fd, int access) {
  struct stat file{};
  if (fstat(fd.get(), &file) != 0) {
    return ErrnoError(errno, "look at it");
  }
  // Only files of shmem and hugetlbfs have seals, and of those only memfds can have more than one.
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (!S_ISREG(file.st_mode) || seals < 0) {
    return Refused("no memfd");
  }
  if (file.st_uid != geteuid()) {
    return Refused(absl::StrCat("made by the user ", file.st_uid, ", not by ", geteuid()));
  }
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) != access) {
    return Refused(access == O_RDONLY ? "opened for writing" : "not opened for writing");
  }
  return Memfd{.bytes = static_cast<uint64_t>(file.st_size), .seals = seals};
}

}  // namespace

absl::StatusOr<MemoryId> MemoryIdOf(const Fd& fd) {
  struct stat file{};
  if (fstat(fd.get(), &file) != 0) {
    return ErrnoError(errno, "look at it");
  }
  return MemoryId{.device = file.st_dev, .inode = file.st_ino};
}

absl::Status CheckSealed(const Fd& kept, uint64_t bytes) {
  ASSIGN_OR_RETURN(const Memfd memfd, Look(kept, O_RDONLY));
  constexpr int kSeals = kLengthSeals | F_SEAL_WRITE;
  if ((memfd.seals & kSeals) != kSeals) {
    return Refused("not sealed against changes");
  }
  if (memfd.bytes != bytes || bytes == 0 || bytes % kPageBytes != 0) {
    return Refused(absl::StrCat(memfd.bytes, " bytes long, not ", bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> CheckWritable(const Fd& fd, uint64_t most) {
  ASSIGN_OR_RETURN(const Memfd memfd, Look(fd, O_RDWR));
  if ((memfd.seals & kLengthSeals) != kLengthSeals) {
    return Refused("its length is not sealed");
  }
  if ((memfd.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
    return Refused("sealed against changes");
  }
  if (memfd.bytes > most) {
    return Refused(absl::StrCat(memfd.bytes, " bytes long; at most ", most, " are read"));
  }
  return memfd.bytes;
}

}  // namespace weightd::host
