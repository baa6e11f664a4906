#include "daemon/service/weights_service.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "common/uptime.h"
#include "daemon/pipeline/model.h"
#include "daemon/service/acquire_call.h"
#include "daemon/service/convert.h"
#include "daemon/service/denied_models.h"
#include "daemon/source/source.h"

namespace weightd::service {
namespace {

constexpr const char* kSessionKey = "weightd-session";

bool LooksLikeUri(absl::string_view model) {
  return absl::StrContains(model, ':') || absl::StartsWith(model, "/");
}

}  // namespace

WeightsService::WeightsService(std::string listener, Access access, Daemon daemon)
    : listener_(std::move(listener)),
      access_(std::move(access)),
      daemon_(daemon),
      denied_(access_.denies() ? std::make_shared<DeniedModels>(access_, daemon.names) : nullptr),
      calls_(listener_, daemon.peers, daemon.observer) {}

absl::Status WeightsService::CheckRate(const Caller& caller) const {
  if (!caller.uid.has_value()) {
    return absl::OkStatus();  // its session won't be found
  }
  const absl::Duration wait = daemon_.calls->Take(*caller.uid, Uptime());
  if (wait == absl::ZeroDuration()) {
    return absl::OkStatus();
  }
  return Error(
      Reason::kTooManyRequests,
      absl::StrCat("user ", *caller.uid, " makes more calls a second than listener ", listener_,
                   " allows one user"),
      absl::StrCat("try again in ", absl::FormatDuration(absl::Ceil(wait, absl::Milliseconds(1)))));
}

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

absl::StatusOr<cache::Holder> WeightsService::AdmittedHolder(
    const grpc::CallbackServerContext& context, const Caller& caller) const {
  RETURN_IF_ERROR(CheckRate(caller));
  return HolderOf(context, caller);
}

absl::StatusOr<Uri> WeightsService::Resolve(const std::string& model) const {
  absl::StatusOr<Uri> uri = daemon_.names->Resolve(model);
  // A name that nobody gave, and one that is not for this listener's clients.
  if (!uri.ok() && !access_.everything() && !LooksLikeUri(model)) {
    return source::NotAllowed();
  }
  return uri;
}

Decision WeightsService::Decide(const Uri& uri) const {
  std::vector<std::string> around;
  if (access_.denies()) {
    around = daemon_.names->AliasesAround(uri);
  }
  Decision decision = access_.Decide(uri, daemon_.names->AliasesOf(uri), around);
  decision.policy.denied = denied_;
  return decision;
}

bool WeightsService::Visible(const Uri& uri) const {
  const Decision decision = Decide(uri);
  if (!decision.visible() || denied_ == nullptr) {
    return decision.visible();
  }
  const auto resident = daemon_.cache->Resident(uri);
  return !resident.ok() || pipeline::CheckFiles((*resident)->index, decision.policy).ok();
}

absl::StatusOr<cache::AcquireRequest> WeightsService::Admit(
    const grpc::CallbackServerContext& context, const Call& call,
    const v1::AcquireRequest& request) const {
  cache::AcquireRequest admitted;
  admitted.request_id = call.request_id();
  ASSIGN_OR_RETURN(admitted.holder, AdmittedHolder(context, call.caller()));
  ASSIGN_OR_RETURN(admitted.uri, Resolve(request.model()));
  const Decision decision = Decide(admitted.uri);
  if (!decision.visible()) {
    return source::NotAllowed();
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
  absl::StatusOr<cache::AcquireRequest> admitted = Admit(*context, begun, *request);
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
                         const absl::Status rate = CheckRate(caller);
                         const absl::StatusOr<cache::Holder> holder = HolderOf(*context, caller);
                         const absl::Status released =
                             holder.ok() ? daemon_.cache->Release(holder->session,
                                                                  LeaseId(request->lease_id()))
                                         : holder.status();
                         // Who gives something back is not sent away.
                         return released.ok() || rate.ok() ? released : rate;
                       });
}

absl::Status WeightsService::List(const v1::ListModelsRequest& request,
                                  v1::ListModelsResponse& response) const {
  std::vector<cache::ModelSnapshot> visible;
  for (cache::ModelSnapshot& model : AllModels(*daemon_.cache, *daemon_.names)) {
    if (Visible(model.uri)) {
      visible.push_back(std::move(model));
    }
  }
  return FillPage(visible, *daemon_.names, request, response);
}

grpc::ServerUnaryReactor* WeightsService::ListModels(grpc::CallbackServerContext* context,
                                                     const v1::ListModelsRequest* request,
                                                     v1::ListModelsResponse* response) {
  return calls_.Answer(context, {"ListModels"}, [&](const Caller& caller) -> absl::Status {
    RETURN_IF_ERROR(AdmittedHolder(*context, caller).status());
    return List(*request, *response);
  });
}

absl::Status WeightsService::Get(const v1::GetModelRequest& request,
                                 v1::GetModelResponse& response) const {
  ASSIGN_OR_RETURN(const Uri uri, Resolve(request.model()));
  if (!Visible(uri)) {
    return source::NotAllowed();
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
                         RETURN_IF_ERROR(AdmittedHolder(*context, caller).status());
                         return Get(*request, *response);
                       });
}

}  // namespace weightd::service
