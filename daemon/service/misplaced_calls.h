#ifndef WEIGHTD_DAEMON_SERVICE_MISPLACED_CALLS_H_
#define WEIGHTD_DAEMON_SERVICE_MISPLACED_CALLS_H_

#include <grpcpp/generic/async_generic_service.h>

#include <string>

#include "daemon/service/call_record.h"
#include "daemon/service/calls.h"
#include "daemon/service/connection_acceptor.h"

namespace weightd::service {

// What a client's socket answers to calls that are none of a client's: those of operators are
// refused and reported, whatever they ask; others nobody knows. Thread-safe.
class MisplacedCalls final : public grpc::CallbackGenericService {
 public:
  // As Calls'.
  MisplacedCalls(std::string listener, const Peers* peers, CallObserver* observer);

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override;

 private:
  const Calls calls_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_MISPLACED_CALLS_H_
