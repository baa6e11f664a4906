#ifndef WEIGHTD_DAEMON_SERVICE_CLIENT_LISTENER_H_
#define WEIGHTD_DAEMON_SERVICE_CLIENT_LISTENER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "daemon/cache/cache.h"
#include "daemon/service/access.h"
#include "daemon/service/call_record.h"
#include "daemon/service/connection_acceptor.h"
#include "daemon/service/grpc_listener.h"
#include "daemon/service/handle_channel.h"
#include "daemon/service/misplaced_calls.h"
#include "daemon/service/model_names.h"
#include "daemon/service/rate_limit.h"
#include "daemon/service/sessions.h"
#include "daemon/service/user_shares.h"
#include "daemon/service/weights_service.h"

namespace weightd::service {

struct ClientListenerOptions {
  std::string name = {};
  std::string directory = {};
  int max_sessions = 256;
  uint32_t max_connections = 1024;
  // Whether several users can reach it.
  UserShares::Users users = UserShares::Users::kOne;
  // Of one user; 0: no limit.
  uint32_t calls_per_second = 0;
  uint32_t connections_per_second = 0;
};

// One folder's client side: weightd.sock and handles.sock, with one set of rights.
class ClientListener {
 public:
  // All outlive the listener.
  struct Daemon {
    cache::Cache* cache;
    Sessions* sessions;
    const ModelNames* names;
    UserShares* in_flight;
    CallObserver* observer;
  };

  // `calls` listens on weightd.sock, `handles` on handles.sock.
  static absl::StatusOr<std::unique_ptr<ClientListener>> Start(Fd calls, Fd handles, Access access,
                                                               ClientListenerOptions options,
                                                               Daemon daemon);

  const ClientListenerOptions& options() const { return options_; }
  uint32_t sessions() const { return handles_->sessions(); }

  // As GrpcListener's.
  void ShutdownCalls(absl::Time deadline) { calls_->Shutdown(deadline); }

 private:
  ClientListener(Access access, ClientListenerOptions options, const Daemon& daemon);

  const ClientListenerOptions options_;
  RateLimit call_rate_;
  // Of both sockets together.
  RateLimit connection_rate_;
  Peers peers_;
  WeightsService service_;
  MisplacedCalls misplaced_;
  // Ends after the calls, whose leases its sessions own.
  std::unique_ptr<HandleChannel> handles_;
  std::unique_ptr<GrpcListener> calls_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CLIENT_LISTENER_H_
