#include "daemon/service/client_listener.h"

#include <utility>

#include "common/status.h"

namespace weightd::service {

ClientListener::ClientListener(Access access, ClientListenerOptions options, const Daemon& daemon)
    : options_(std::move(options)),
      call_rate_(options_.calls_per_second),
      connection_rate_(options_.connections_per_second),
      service_(
          options_.name, std::move(access),
          {daemon.cache, daemon.sessions, daemon.names, &peers_, &call_rate_, daemon.observer}),
      misplaced_(options_.name, &peers_, daemon.observer) {}

absl::StatusOr<std::unique_ptr<ClientListener>> ClientListener::Start(Fd calls, Fd handles,
                                                                      Access access,
                                                                      ClientListenerOptions options,
                                                                      Daemon daemon) {
  std::unique_ptr<ClientListener> listener(
      new ClientListener(std::move(access), std::move(options), daemon));
  const ClientListenerOptions& known = listener->options_;
  RateLimit* const rate = &listener->connection_rate_;
  ASSIGN_OR_RETURN(
      listener->handles_,
      HandleChannel::Start(std::move(handles), {known.name, known.max_sessions, known.users, rate},
                           {daemon.sessions, daemon.cache, daemon.in_flight, daemon.observer}));
  ASSIGN_OR_RETURN(
      listener->calls_,
      GrpcListener::Start(std::move(calls), {known.max_connections, known.users, rate},
                          &listener->service_, {known.name, &listener->peers_, daemon.observer},
                          &listener->misplaced_));
  return listener;
}

}  // namespace weightd::service
