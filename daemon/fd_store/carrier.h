#ifndef WEIGHTD_DAEMON_FD_STORE_CARRIER_H_
#define WEIGHTD_DAEMON_FD_STORE_CARRIER_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/fd.h"
#include "daemon/fd_store/fd_store.h"

namespace weightd::fd_store {

// The way to what keeps descriptors, for one thread. Each call takes some seconds at most. An error
// of Store for which IsRefusal is true is an answer; any other error of any of them means that the
// way is lost until Open opens it again.
class Carrier {
 public:
  virtual ~Carrier() = default;

  // StoreStatus::place.
  virtual std::string place() const = 0;
  // How many it holds, as far as that is known.
  virtual size_t limit() const = 0;
  virtual absl::Status Open() = 0;
  // What is there. An error for which IsRefusal is true: that can't be had by this process, though
  // the rest can be done once the way is open again.
  virtual absl::StatusOr<std::vector<StoredFd>> List() = 0;
  virtual absl::Status Store(const std::string& name, const Fd& fd) = 0;
  virtual absl::Status Remove(const std::string& name) = 0;
  // Returns when all that was stored and removed is so.
  virtual absl::Status Settle() = 0;
  // A descriptor that is readable, while nothing is asked, once the way is lost; -1 if nothing
  // shows that.
  virtual int lost() const = 0;
  // An error once whoever looks for the keeper now wouldn't find the one that Open found, or not
  // trust it: it holds what we store, but not for the next daemon. Cheap.
  virtual absl::Status Check() { return absl::OkStatus(); }
  // Makes calls return soon, with an error. From any thread, once.
  virtual void Interrupt() = 0;
};

// Whether the keeper lives and says no.
inline bool IsRefusal(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsInvalidArgument(status);
}

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_CARRIER_H_
