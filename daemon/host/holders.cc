#include "daemon/host/holders.h"

#include <fcntl.h>

#include <csignal>

namespace weightd::host {

bool HeldByOthers(const Fd& probe) {
  // Whoever opens the file through /proc while we hold the lease makes the kernel signal us. The
  // default, SIGIO, would end the process; SIGURG is ignored unless somebody asks for it.
  if (fcntl(probe.get(), F_SETSIG, SIGURG) != 0) {
    return true;
  }
  if (fcntl(probe.get(), F_SETLEASE, F_WRLCK) != 0) {
    return true;
  }
  fcntl(probe.get(), F_SETLEASE, F_UNLCK);
  return false;
}

}  // namespace weightd::host
