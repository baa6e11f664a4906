#ifndef WEIGHTD_DAEMON_FD_STORE_OPEN_H_
#define WEIGHTD_DAEMON_FD_STORE_OPEN_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/fd_store/courier.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/fd_store/inherited.h"

namespace weightd::fd_store {

struct Options {
  Inherited inherited = {};
  // As in NOTIFY_SOCKET; empty if there is no service manager.
  std::string notify_socket;
  // Where weightd-keeper serves; empty if it doesn't.
  std::string keeper_dir;
  // Of a keeper; a service manager has a store for each unit.
  IsOurs is_ours = [](absl::string_view) { return true; };
  Observer observer = {};

  // Whether the service manager stores descriptors: it says how many, or gave some.
  bool ForManager() const {
    return !notify_socket.empty() && (inherited.limit.has_value() || !inherited.fds.empty());
  }
};

// The service manager if it stores descriptors, else the keeper if there is a folder for one, else
// null. A keeper that isn't there yet is no error.
absl::StatusOr<std::unique_ptr<FdStore>> Open(Options options);

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_OPEN_H_
