#ifndef WEIGHTD_DAEMON_CONFIGURED_FD_STORE_H_
#define WEIGHTD_DAEMON_CONFIGURED_FD_STORE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/fd_store/inherited.h"
#include "weightd/v1/admin.pb.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// Where this daemon's descriptors outlive it: with the service manager at `notify_socket`, with the
// keeper of a valid config, or nowhere (null). What becomes of that is logged. After the log was
// started.
absl::StatusOr<std::unique_ptr<fd_store::FdStore>> OpenFdStore(const v1::Config& config,
                                                               const std::string& notify_socket,
                                                               fd_store::Inherited inherited);

// What marks this daemon's descriptors there: cache::OwnerMark of its socket folder, by whatever
// symbolic links the config has it.
std::string StoreMark(const v1::Config& config);

// For operators. `store` isn't null.
v1::KeeperStatus KeeperStatusOf(const fd_store::FdStore& store);

// At the end of the process: waits a moment until the store has everything that the next daemon is
// to take back. Null: there is none.
void FlushFdStore(fd_store::FdStore* store);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIGURED_FD_STORE_H_
