#ifndef WEIGHTD_DAEMON_SERVICE_GRPC_LISTENER_H_
#define WEIGHTD_DAEMON_SERVICE_GRPC_LISTENER_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "daemon/service/connection_acceptor.h"

namespace grpc {
class CallbackGenericService;
class Server;
class Service;
}  // namespace grpc

namespace weightd::service {

// One gRPC server on one socket of ours, with health and reflection beside the service given.
// gRPC's own UNIX listener knows no peer, takes over paths that are in use, and unlinks its
// successor's socket: so we accept, and hand the connections over.
class GrpcListener {
 public:
  // `listening` is a non-blocking SOCK_STREAM socket; `service` outlives the listener, and so does
  // `others`, which answers the calls that it doesn't know (null: UNIMPLEMENTED).
  static absl::StatusOr<std::unique_ptr<GrpcListener>> Start(
      Fd listening, ConnectionAcceptor::Limits limits, grpc::Service* service, Reception reception,
      grpc::CallbackGenericService* others = nullptr);
  // Shuts down at once if that wasn't done.
  ~GrpcListener();
  GrpcListener(const GrpcListener&) = delete;

  // Serves a connection that somebody else accepted; before Shutdown().
  void Serve(Fd connection);

  // Takes no new connections and calls, waits for running calls until `deadline`, then cancels
  // them. Returns when the last is over.
  void Shutdown(absl::Time deadline);

 private:
  explicit GrpcListener(std::unique_ptr<grpc::Server> server);

  std::unique_ptr<grpc::Server> server_;
  // Null once shut down.
  std::unique_ptr<ConnectionAcceptor> acceptor_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_GRPC_LISTENER_H_
