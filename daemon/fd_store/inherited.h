#ifndef WEIGHTD_DAEMON_FD_STORE_INHERITED_H_
#define WEIGHTD_DAEMON_FD_STORE_INHERITED_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "daemon/fd_store/fd_store.h"

namespace weightd::fd_store {

// What the service manager gave this process beside its life (sd_listen_fds(3), "File Descriptor
// Store" of systemd).
struct Inherited {
  // Takes FDSTORE, LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES out of the environment, so that no
  // process of ours takes them for its own, and the descriptors that they name, if they are for
  // this process; close-on-exec. Before other threads start and anything is opened.
  static Inherited FromEnvironment();

  std::vector<StoredFd> fds;
  // How many the manager stores for us at most; systemd says it from version 254 on, our unit of
  // any version.
  std::optional<size_t> limit;
};

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_INHERITED_H_
