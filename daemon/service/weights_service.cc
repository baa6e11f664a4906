#include "daemon/service/weights_service.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/service/acquire_call.h"
#include "daemon/service/convert.h"

namespace weightd::service {
namespace {

constexpr const char* kSessionKey = "weightd-session";

// One answer for what is forbidden and what nobody knows, so that neither can be told from the
// other.
absl::Status NotAllowed() {
  return Error(Reason::kNotAllowed, "not allowed or unknown",
               "ask the operator what this listener may attach and load");
}

}  // namespace

WeightsService::WeightsService(std::string listener, Access access, Daemon daemon)
    : listener_(std::move(listener)),
      access_(std::move(access)),
      daemon_(daemon),
      calls_(listener_, daemon.peers, daemon.observer) {}

absl::StatusOr<cache::Holder> WeightsService::HolderOf(const grpc::CallbackServerContext& context,
                                                       const Caller& caller) const {
  const auto token = context.client_metadata().find(kSessionKey);
  absl::string_view sent;
  if (caller.uid.has_value() && token != context.client_metadata().end()) {
    sent = absl::string_view(token->second.data(), token->second.size());
  }
  ASSIGN_OR_RETURN(const SessionId session,
                   daemon_.sessions->Find(sent, listener_, caller.uid.value_or(0)));
  return cache::Holder{session, listener_, *caller.uid};
}

absl::StatusOr<cache::AcquireRequest> WeightsService::Admit(
    const grpc::CallbackServerContext& context, const Caller& caller,
    const v1::AcquireRequest& request) const {
  cache::AcquireRequest admitted;
  ASSIGN_OR_RETURN(admitted.holder, HolderOf(context, caller));
  ASSIGN_OR_RETURN(admitted.uri, daemon_.names->Resolve(request.model()));
  const Decision decision = access_.Decide(admitted.uri, daemon_.names->AliasesOf(admitted.uri));
  if (!decision.visible()) {
    return NotAllowed();
  }
  admitted.policy = decision.policy;
  admitted.may_load = decision.load && !request.resident_only();
  admitted.revision = request.revision();
  ASSIGN_OR_RETURN(admitted.pins, PinsOf(request.sha256()));
  if (request.has_device()) {
    ASSIGN_OR_RETURN(admitted.device, DeviceRequestOf(request.device()));
  }
  return admitted;
}

grpc::ServerWriteReactor<v1::AcquireResponse>* WeightsService::Acquire(
    grpc::CallbackServerContext* context, const v1::AcquireRequest* request) {
  Call begun = calls_.Begin(*context, {"Acquire", request->model()});
  absl::StatusOr<cache::AcquireRequest> admitted = Admit(*context, begun.caller(), *request);
  auto* const call =
      new AcquireCall(context, std::move(begun), {daemon_.cache, daemon_.sessions, daemon_.names});
  if (admitted.ok()) {
    call->Start(*std::move(admitted));
  } else {
    call->End(admitted.status());
  }
  return call;
}

grpc::ServerUnaryReactor* WeightsService::Release(grpc::CallbackServerContext* context,
                                                  const v1::ReleaseRequest* request,
                                                  v1::ReleaseResponse* /*response*/) {
  return calls_.Answer(context, {"Release", {}, absl::StrCat("lease=", request->lease_id())},
                       [&](const Caller& caller) -> absl::Status {
                         ASSIGN_OR_RETURN(const cache::Holder holder, HolderOf(*context, caller));
                         return daemon_.cache->Release(holder.session,
                                                       LeaseId(request->lease_id()));
                       });
}

absl::Status WeightsService::List(const v1::ListModelsRequest& request,
                                  v1::ListModelsResponse& response) const {
  std::vector<cache::ModelSnapshot> visible;
  for (cache::ModelSnapshot& model : AllModels(*daemon_.cache, *daemon_.names)) {
    if (access_.Decide(model.uri, daemon_.names->AliasesOf(model.uri)).visible()) {
      visible.push_back(std::move(model));
    }
  }
  return FillPage(visible, *daemon_.names, request, response);
}

grpc::ServerUnaryReactor* WeightsService::ListModels(grpc::CallbackServerContext* context,
                                                     const v1::ListModelsRequest* request,
                                                     v1::ListModelsResponse* response) {
  return calls_.Answer(context, {"ListModels"}, [&](const Caller& caller) -> absl::Status {
    RETURN_IF_ERROR(HolderOf(*context, caller).status());
    return List(*request, *response);
  });
}

absl::Status WeightsService::Get(const v1::GetModelRequest& request,
                                 v1::GetModelResponse& response) const {
  ASSIGN_OR_RETURN(const Uri uri, daemon_.names->Resolve(request.model()));
  if (!access_.Decide(uri, daemon_.names->AliasesOf(uri)).visible()) {
    return NotAllowed();
  }
  ASSIGN_OR_RETURN(const cache::ModelSnapshot model, ModelOf(uri, *daemon_.cache, *daemon_.names));
  *response.mutable_model() = ToProto(model, *daemon_.names);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* WeightsService::GetModel(grpc::CallbackServerContext* context,
                                                   const v1::GetModelRequest* request,
                                                   v1::GetModelResponse* response) {
  return calls_.Answer(context, {"GetModel", request->model()},
                       [&](const Caller& caller) -> absl::Status {
                         RETURN_IF_ERROR(HolderOf(*context, caller).status());
                         return Get(*request, *response);
                       });
}

}  // namespace weightd::service
