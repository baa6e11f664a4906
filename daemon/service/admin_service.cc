#include "daemon/service/admin_service.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/source_revision.h"
#include "common/status.h"
#include "common/utf8.h"
#include "common/version.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/model.h"
#include "daemon/service/convert.h"
#include "daemon/service/paging.h"
#include "daemon/service/preload_call.h"
#include "daemon/service/request_key.h"
#include "daemon/service/tensor_index_codec.h"

namespace weightd::service {

AdminService::AdminService(Daemon daemon)
    : daemon_(std::move(daemon)), calls_(kAdminListener, daemon_.peers, daemon_.observer) {}

absl::StatusOr<cache::PreloadRequest> AdminService::Admit(const Call& call,
                                                          v1::PreloadRequest& request) const {
  cache::PreloadRequest admitted;
  admitted.request_id = call.request_id();
  ASSIGN_OR_RETURN(admitted.key, TakeKey(request));
  if (admitted.key.has_value() && call.caller().listener != kAdminListener) {
    return Error(Reason::kUnsupported,
                 "a key that comes with a preload is only taken on admin.sock",
                 "preload on the node itself, or name the key under `keys` in the daemon's config");
  }
  ASSIGN_OR_RETURN(admitted.uri, daemon_.names->Resolve(request.model()));
  admitted.policy = {true, true, true};
  admitted.pin = request.pin();
  ASSIGN_OR_RETURN(admitted.pins, PinsOf(request.sha256()));
  ASSIGN_OR_RETURN(admitted.gpus, GpusNamed(request.gpus()));
  return admitted;
}

grpc::ServerWriteReactor<v1::PreloadResponse>* AdminService::Preload(
    grpc::CallbackServerContext* context, const v1::PreloadRequest* request) {
  Asked asked = {"Preload", request->model(),
                 DetailsOf(absl::StrJoin(request->gpus(), ","), request->pin() ? "pin" : "")};
  Call begun = calls_.Begin(*context, std::move(asked));
  // The message is this call's own, made by gRPC, and nobody else reads it.
  absl::StatusOr<cache::PreloadRequest> admitted =
      Admit(begun, const_cast<v1::PreloadRequest&>(*request));
  auto* const call = new PreloadCall(context, std::move(begun), daemon_.names);
  if (admitted.ok()) {
    call->Start(daemon_.cache, *std::move(admitted));
  } else {
    call->End(admitted.status());
  }
  return call;
}

absl::StatusOr<cache::EvictResult> AdminService::EvictFrom(const v1::EvictRequest& request) const {
  ASSIGN_OR_RETURN(const Uri uri, daemon_.names->Resolve(request.model()));
  if (request.gpu().empty()) {
    return daemon_.cache->Evict(uri, request.force());
  }
  ASSIGN_OR_RETURN(const GpuId gpu, daemon_.cache->FindGpu(request.gpu()));
  return daemon_.cache->EvictFromGpu(uri, gpu, request.force());
}

grpc::ServerUnaryReactor* AdminService::Evict(grpc::CallbackServerContext* context,
                                              const v1::EvictRequest* request,
                                              v1::EvictResponse* response) {
  const std::string details = DetailsOf(request->gpu(), request->force() ? "force" : "");
  return calls_.Answer(context, {"Evict", request->model(), details},
                       [&](const Caller&) -> absl::Status {
                         ASSIGN_OR_RETURN(const cache::EvictResult evicted, EvictFrom(*request));
                         response->set_freed_bytes(evicted.freed_bytes);
                         response->set_draining_bytes(evicted.draining_bytes);
                         return absl::OkStatus();
                       });
}

absl::StatusOr<v1::ModelSummary> AdminService::SetPinned(const std::string& model,
                                                         bool pinned) const {
  ASSIGN_OR_RETURN(const Uri uri, daemon_.names->Resolve(model));
  ASSIGN_OR_RETURN(const cache::ModelSnapshot snapshot, daemon_.cache->Pin(uri, pinned));
  return ToProto(snapshot, *daemon_.names);
}

grpc::ServerUnaryReactor* AdminService::Pin(grpc::CallbackServerContext* context,
                                            const v1::PinRequest* request,
                                            v1::PinResponse* response) {
  return calls_.Answer(context, {"Pin", request->model()}, [&](const Caller&) -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_model(), SetPinned(request->model(), true));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::Unpin(grpc::CallbackServerContext* context,
                                              const v1::UnpinRequest* request,
                                              v1::UnpinResponse* response) {
  return calls_.Answer(context, {"Unpin", request->model()}, [&](const Caller&) -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_model(), SetPinned(request->model(), false));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest* request,
                                                   v1::ListModelsResponse* response) {
  return calls_.Answer(context, {"ListModels"}, [&](const Caller&) {
    return FillPage(AllModels(*daemon_.cache, *daemon_.names), *daemon_.names, *request, *response);
  });
}

absl::Status AdminService::Describe(const v1::DescribeModelRequest& request,
                                    v1::DescribeModelResponse& response) const {
  ASSIGN_OR_RETURN(const Uri uri, daemon_.names->Resolve(request.model()));
  ASSIGN_OR_RETURN(const cache::ModelSnapshot summary,
                   ModelOf(uri, *daemon_.cache, *daemon_.names));
  *response.mutable_model() = ToProto(summary, *daemon_.names);
  const absl::StatusOr<std::shared_ptr<const pipeline::ResidentModel>> resident =
      daemon_.cache->Resident(uri);
  if (!resident.ok()) {
    // Loading, or failed: the summary says all there is.
    return absl::OkStatus();
  }
  const pipeline::ModelIndex& index = (*resident)->index;
  ASSIGN_OR_RETURN(Page page, PageOf(index.pieces.size(), request.page_size(), request.page_token(),
                                     index.revision.hex()));
  AddEntries(page, index.revision.hex(), [&](size_t i) {
    v1::TensorPiece& added = *response.add_tensors();
    added = ToProto(index.pieces[i]);
    return added.ByteSizeLong();
  });
  response.set_next_page_token(std::move(page.next_token));
  if (page.begin == 0) {
    for (const pipeline::ModelFile& file : index.files) {
      *response.add_files() = ToProto(file);
    }
    response.mutable_metadata()->insert(index.metadata.begin(), index.metadata.end());
    // None if the model is only on GPUs. It asks the kernel about every page of the model.
    if (const auto& weights = (*resident)->weights; weights != nullptr) {
      response.set_huge_page_fraction(weights->HugePageFraction().value_or(0));
    }
    *response.mutable_verification() = VerificationOf(index, (*resident)->digests->verified());
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::DescribeModel(grpc::CallbackServerContext* context,
                                                      const v1::DescribeModelRequest* request,
                                                      v1::DescribeModelResponse* response) {
  return calls_.Answer(context, {"DescribeModel", request->model()},
                       [&](const Caller&) { return Describe(*request, *response); });
}

absl::Status AdminService::Leases(const v1::ListLeasesRequest& request,
                                  v1::ListLeasesResponse& response) const {
  std::optional<Uri> only;
  if (!request.model().empty()) {
    ASSIGN_OR_RETURN(only, daemon_.names->Resolve(request.model()));
  }
  for (const cache::LeaseSnapshot& lease : daemon_.cache->Leases()) {
    if (!only.has_value() || lease.uri == *only) {
      *response.add_leases() = ToProto(lease);
    }
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::ListLeases(grpc::CallbackServerContext* context,
                                                   const v1::ListLeasesRequest* request,
                                                   v1::ListLeasesResponse* response) {
  return calls_.Answer(context, {"ListLeases", request->model()},
                       [&](const Caller&) { return Leases(*request, *response); });
}

grpc::ServerWriteReactor<v1::WatchEventsResponse>* AdminService::WatchEvents(
    grpc::CallbackServerContext* context, const v1::WatchEventsRequest* /*request*/) {
  return new EventStream(calls_.Begin(*context, {"WatchEvents"}), &daemon_.cache->events(),
                         &event_writer_);
}

void AdminService::FillStatus(v1::GetStatusResponse& response) const {
  response.set_version(std::string(kVersion));
  response.set_source_revision(SourceRevision());
  response.set_log_level(daemon_.log_levels.current());
  response.mutable_uptime()->set_seconds(absl::ToInt64Seconds(absl::Now() - daemon_.started));
  *response.mutable_host() = ToProto(daemon_.cache->Usage());
  response.set_loads_running(daemon_.cache->LoadsRunning());
  response.set_draining(daemon_.cache->LoadsStopped());
  if (daemon_.keeper) {
    *response.mutable_keeper() = daemon_.keeper();
    *response.mutable_readoption() = ToProto(daemon_.cache->Readoption());
  }
  const std::vector<cache::LeaseSnapshot> leases = daemon_.cache->Leases();
  response.set_leases(static_cast<uint32_t>(leases.size()));
  for (v1::ListenerStatus& listener : daemon_.listeners()) {
    response.set_sessions(response.sessions() + listener.sessions());
    listener.set_leases(static_cast<uint32_t>(std::count_if(
        leases.begin(), leases.end(),
        [&](const cache::LeaseSnapshot& lease) { return lease.listener == listener.name(); })));
    const cache::HeldBytes held = daemon_.cache->HeldBy(listener.name());
    listener.set_leased_bytes(held.leased);
    listener.set_draining_bytes(held.draining);
    listener.set_max_bytes(held.quota.value_or(0));
    *response.add_listeners() = std::move(listener);
  }
  for (const device::GpuStatus& gpu : daemon_.cache->Gpus()) {
    *response.add_gpus() = ToProto(gpu);
  }
}

grpc::ServerUnaryReactor* AdminService::GetStatus(grpc::CallbackServerContext* context,
                                                  const v1::GetStatusRequest* /*request*/,
                                                  v1::GetStatusResponse* response) {
  return calls_.Answer(context, {"GetStatus"}, [&](const Caller&) {
    FillStatus(*response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::SetLogLevel(grpc::CallbackServerContext* context,
                                                    const v1::SetLogLevelRequest* request,
                                                    v1::SetLogLevelResponse* response) {
  // As long as the names of levels are, and then some.
  constexpr size_t kLongest = 20;
  const std::string details =
      absl::StrCat("level=", ToUtf8(absl::string_view(request->level()).substr(0, kLongest)));
  return calls_.Answer(context, {"SetLogLevel", {}, details}, [&](const Caller&) -> absl::Status {
    ASSIGN_OR_RETURN(*response->mutable_previous(), daemon_.log_levels.change(request->level()));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::GetMetrics(grpc::CallbackServerContext* context,
                                                   const v1::GetMetricsRequest* /*request*/,
                                                   v1::GetMetricsResponse* response) {
  return calls_.Answer(context, {"GetMetrics"}, [&](const Caller&) {
    response->set_text(daemon_.metrics());
    return absl::OkStatus();
  });
}

}  // namespace weightd::service
