#ifndef WEIGHTD_CLIENT_CPP_LINK_H_
#define WEIGHTD_CLIENT_CPP_LINK_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/connection.h"
#include "client/cpp/held_lease.h"
#include "common/cancellation.h"

namespace weightd::client {

// How long a daemon may be away where nobody says how long to wait.
inline constexpr absl::Duration kRestartPatience = absl::Seconds(30);

// What a client has for as long as it lives, whichever daemon runs: the connection to that one,
// and the leases that may have to be taken again. Thread-safe.
class Client::Link {
 public:
  // Waits for a daemon that was there, until `deadline`, and for no other.
  static absl::StatusOr<std::shared_ptr<Link>> Open(std::string socket_dir, absl::Time deadline);
  // Gives up leases that are being taken again.
  ~Link();
  Link(const Link&) = delete;

  // To the daemon that answered last.
  std::shared_ptr<Connection> connection() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Calls `call` with the connection, and again with a new one while the daemon is away: until
  // `deadline`, and not for more than `patience` at a time. `call` sets `loads` when a daemon tells
  // how far the load is that it waits for. If that ends with its daemon, and the next one says
  // kNotAllowed, an operator has to begin it: it is waited for, too, for kRestartPatience. Its last
  // error, if it comes to that.
  absl::Status Patiently(absl::Time deadline, absl::Duration patience, bool& loads,
                         absl::FunctionRef<absl::Status(const std::shared_ptr<Connection>&)> call)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes it again, at a later call that succeeds, should its daemon be gone then.
  void Remember(const std::shared_ptr<HeldLease>& lease) ABSL_LOCKS_EXCLUDED(mutex_);
  // Those that were remembered and are still held: those on host memory before it returns, by
  // `deadline`; those on GPUs, for which a daemon may wait, on a thread.
  void RenewLeases(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Link(std::string socket_dir, std::shared_ptr<Connection> connection)
      : socket_dir_(std::move(socket_dir)), connection_(std::move(connection)) {}

  using Leases = std::vector<std::shared_ptr<HeldLease>>;
  // One thread at a time; what it doesn't get to is for a later call.
  void RenewLater(Leases leases, std::shared_ptr<Connection> connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Replaces `gone`, unless another thread did.
  absl::Status Reopen(const std::shared_ptr<Connection>& gone, absl::Time deadline)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string socket_dir_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<Connection> connection_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<HeldLease>> leases_ ABSL_GUARDED_BY(mutex_);
  // Takes no lock of the link's, which a child after fork() would find held.
  std::unique_ptr<std::thread> renewing_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> renews_ = false;
  Cancellation ending_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_LINK_H_
