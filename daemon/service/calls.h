#ifndef WEIGHTD_DAEMON_SERVICE_CALLS_H_
#define WEIGHTD_DAEMON_SERVICE_CALLS_H_

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "daemon/service/blocking_calls.h"
#include "daemon/service/call.h"
#include "daemon/service/call_record.h"
#include "daemon/service/connection_acceptor.h"

namespace weightd::service {

// What every call of a gRPC service begins with: who calls, and a record of how it ends.
// Thread-safe.
class Calls {
 public:
  // `listener` is the one of calls whose connection has ended already. The others outlive it.
  Calls(std::string listener, const Peers* peers, CallObserver* observer);

  Call Begin(const grpc::CallbackServerContext& context, Asked asked) const;

  // A call that is answered at once, with what `answer` returns.
  using Answerer = absl::FunctionRef<absl::Status(const Caller& caller)>;
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, Asked asked,
                                   Answerer answer) const;

  // A call that is answered later, by a thread of `threads`.
  grpc::ServerUnaryReactor* AnswerLater(grpc::CallbackServerContext* context, Asked asked,
                                        BlockingCalls& threads,
                                        std::function<absl::Status()> answer) const;

 private:
  const std::string listener_;
  const Peers* const peers_;
  CallObserver* const observer_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CALLS_H_
