#include "daemon/service/calls.h"

#include <memory>
#include <optional>
#include <utility>

#include "daemon/service/grpc_status.h"

namespace weightd::service {

Calls::Calls(std::string listener, const Peers* peers, CallObserver* observer)
    : listener_(std::move(listener)), peers_(peers), observer_(observer) {}

Call Calls::Begin(const grpc::CallbackServerContext& context, Asked asked) const {
  std::optional<Caller> caller = peers_->CallerAt(context.peer());
  return {observer_, caller.has_value() ? *std::move(caller) : Caller{listener_}, std::move(asked)};
}

grpc::ServerUnaryReactor* Calls::Answer(grpc::CallbackServerContext* context, Asked asked,
                                        Answerer answer) const {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  grpc::Status status;
  {
    Call call = Begin(*context, std::move(asked));
    status = EndCall(call, answer(call.caller()), *context);
  }
  reactor->Finish(std::move(status));
  return reactor;
}

grpc::ServerUnaryReactor* Calls::AnswerLater(grpc::CallbackServerContext* context, Asked asked,
                                             BlockingCalls& threads,
                                             std::function<absl::Status()> answer) const {
  // Requested here: gRPC takes the handler's return for the call's reactor. The call, its request
  // and its answer live until it is finished, also if the caller leaves.
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  auto call = std::make_shared<std::optional<Call>>(Begin(*context, std::move(asked)));
  const auto finish = [context, reactor, call](const absl::Status& outcome) {
    grpc::Status status = EndCall(**call, outcome, *context);
    call->reset();
    reactor->Finish(std::move(status));
  };
  const absl::Status begun =
      threads.Run([finish, answer = std::move(answer)] { finish(answer()); });
  if (!begun.ok()) {
    finish(begun);
  }
  return reactor;
}

}  // namespace weightd::service
