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
#include "daemon/service/call_record.h"
#include "daemon/service/rate_limit.h"
#include "daemon/service/user_shares.h"

namespace weightd::service {

// Who is at the other end of a gRPC connection. gRPC names a connection that it was handed by its
// descriptor's number, "fd:7". A call may outlive its connection, so that who made it stays known
// until the number is used again; from then on it is taken for the next one's: this is a second
// proof beside a session's token, not the only one. Thread-safe.
class Peers {
 public:
  std::optional<Caller> CallerAt(absl::string_view grpc_peer) const;

  // Before the descriptor is handed to gRPC.
  void Add(int descriptor, Caller caller);

 private:
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<int, Caller> by_descriptor_ ABSL_GUARDED_BY(mutex_);
};

// Where the connections of a listener are noted. All but the name outlive it.
struct Reception {
  std::string listener;
  Peers* peers;
  // Told of connections that are refused.
  CallObserver* observer;
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

  static absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> Start(Fd listening, Limits limits,
                                                                   Reception reception,
                                                                   Serve serve);
  // Accepts no more. Connections that were passed on live on.
  ~ConnectionAcceptor();
  ConnectionAcceptor(const ConnectionAcceptor&) = delete;

 private:
  struct Connection {
    Fd watched;
    uint32_t uid = 0;
  };

  ConnectionAcceptor(Fd listening, Wakeup wakeup, Limits limits, Reception reception, Serve serve);
  void Run();
  void Accept(Fd connection);
  // Of one for which no descriptor is left.
  void ReportUnserved(int connection);
  bool TakeShare(uint32_t uid);
  void Forget(uint64_t id);
  // Those whose end we were not told of yet.
  void ForgetEnded();

  const Fd listening_;
  const Wakeup wakeup_;
  UserShares shares_;
  RateLimit* const rate_;
  const Reception reception_;
  const Serve serve_;
  SpareDescriptor spare_;
  // Only the thread touches these.
  uint64_t last_id_ = 0;
  absl::flat_hash_map<uint64_t, Connection> connections_;
  std::thread thread_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CONNECTION_ACCEPTOR_H_
