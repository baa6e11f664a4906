#include "common/fd.h"

#include <unistd.h>

namespace weightd {

void Fd::Reset(int fd) {
  if (fd_ >= 0) {
    close(fd_);
  }
  fd_ = fd;
}

}  // namespace weightd
