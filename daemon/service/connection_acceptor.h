#ifndef WEIGHTD_DAEMON_SERVICE_CONNECTION_ACCEPTOR_H_
#define WEIGHTD_DAEMON_SERVICE_CONNECTION_ACCEPTOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"
#include "daemon/service/accept.h"
#include "daemon/service/rate_limit.h"
#include "daemon/service/user_shares.h"

namespace weightd::service {

// Who is at the other end of a gRPC connection. gRPC names a connection that it was handed by its
// descriptor's number, "fd:7"; numbers are used again, so that a call which outlives its connection
// may find the next one's user here: this is a second proof beside the session's token, not the
// only one. Thread-safe.
class Peers {
 public:
  std::optional<uint32_t> UidOf(absl::string_view grpc_peer) const;

 private:
  friend class ConnectionAcceptor;
  struct Peer {
    uint64_t connection = 0;
    uint32_t uid = 0;
  };

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<int, Peer> by_descriptor_ ABSL_GUARDED_BY(mutex_);
};

// Accepts the connections of one listening socket, notes who they are, and passes them on, up to a
// number of connections open at once, by one user and altogether. Keeps a duplicate of each, only
// to see its end. One thread.
class ConnectionAcceptor {
 public:
  struct Limits {
    uint32_t connections = 0;
    UserShares::Users users = UserShares::Users::kOne;
    // Of new connections, which are closed beyond it; null: none. Outlives the acceptor.
    RateLimit* rate = nullptr;
  };
  // Takes the connection over; called on the acceptor's thread.
  using Serve = std::function<void(Fd connection)>;

  // `peers` outlives it.
  static absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> Start(Fd listening, Limits limits,
                                                                   Peers* peers, Serve serve);
  // Accepts no more. Connections that were passed on live on.
  ~ConnectionAcceptor();
  ConnectionAcceptor(const ConnectionAcceptor&) = delete;

 private:
  struct Connection {
    Fd watched;
    // The number that the connection was passed on with.
    int descriptor = -1;
    uint32_t uid = 0;
  };

  ConnectionAcceptor(Fd listening, Wakeup wakeup, Limits limits, Peers* peers, Serve serve);
  void Run();
  void Accept(Fd connection);
  void Forget(uint64_t id);
  // Those whose end we were not told of yet.
  void ForgetEnded();

  const Fd listening_;
  const Wakeup wakeup_;
  UserShares shares_;
  RateLimit* const rate_;
  Peers* const peers_;
  const Serve serve_;
  SpareDescriptor spare_;
  // Only the thread touches these.
  uint64_t last_id_ = 0;
  absl::flat_hash_map<uint64_t, Connection> connections_;
  std::thread thread_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CONNECTION_ACCEPTOR_H_
