#include "daemon/fd_store/same_open_file.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace weightd::fd_store {
namespace {

// Of Linux 6.10; younger than Debian's headers.
constexpr int kDuplicateQuery = 1024 + 3;  // F_DUPFD_QUERY

}  // namespace

bool IsSameOpenFile(int one, int other) {
  if (const int same = fcntl(one, kDuplicateQuery, other); same >= 0) {
    return same == 1;
  }
  if (const long order = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, one, other); order >= 0) {
    return order == 0;
  }
  struct stat first{};
  struct stat second{};
  return fstat(one, &first) == 0 && fstat(other, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino && !S_ISCHR(first.st_mode) &&
         fcntl(one, F_GETFL) == fcntl(other, F_GETFL);
}

}  // namespace weightd::fd_store
