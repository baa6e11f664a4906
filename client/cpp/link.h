#ifndef WEIGHTD_CLIENT_CPP_LINK_H_
#define WEIGHTD_CLIENT_CPP_LINK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/connection.h"
#include "client/cpp/held_lease.h"

namespace weightd::client {

// What a client has for as long as it lives, whichever daemon runs: the connection to that one,
// and the leases that may have to be taken again. Thread-safe.
class Client::Link {
 public:
  // Waits for a daemon that was there, and for no other.
  static absl::StatusOr<std::shared_ptr<Link>> Open(std::string socket_dir, absl::Time deadline);
  Link(const Link&) = delete;

  // To the daemon that answered last.
  std::shared_ptr<Connection> connection() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Calls `call` with the connection, and again with a new one while the daemon is away: until
  // `deadline`, and not for more than half a minute. Its last error, if it comes to that.
  absl::Status Patiently(absl::Time deadline,
                         absl::FunctionRef<absl::Status(const std::shared_ptr<Connection>&)> call)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes it again, at a later call that succeeds, should its daemon be gone then.
  void Remember(const std::shared_ptr<HeldLease>& lease) ABSL_LOCKS_EXCLUDED(mutex_);
  // Those that were remembered and are still held.
  void RenewLeases() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Link(std::string socket_dir, std::shared_ptr<Connection> connection)
      : socket_dir_(std::move(socket_dir)), connection_(std::move(connection)) {}

  // Replaces `gone`, unless another thread did.
  absl::Status Reopen(const std::shared_ptr<Connection>& gone, absl::Time deadline)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string socket_dir_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<Connection> connection_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<HeldLease>> leases_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_LINK_H_
