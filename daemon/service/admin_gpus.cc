// What operators do to GPUs.

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "daemon/device/gpus.h"
#include "daemon/service/admin_service.h"
#include "daemon/service/convert.h"
#include "daemon/service/grpc_status.h"

namespace weightd::service {
namespace {

constexpr absl::string_view kAllGpus = "all";

}  // namespace

absl::StatusOr<std::vector<GpuId>> AdminService::GpusNamed(
    const google::protobuf::RepeatedPtrField<std::string>& names) const {
  std::vector<GpuId> gpus;
  const auto add = [&gpus](const GpuId& gpu) {
    if (std::find(gpus.begin(), gpus.end(), gpu) == gpus.end()) {
      gpus.push_back(gpu);
    }
  };
  for (const std::string& name : names) {
    if (name != kAllGpus) {
      ASSIGN_OR_RETURN(const GpuId gpu, daemon_.cache->FindGpu(name));
      add(gpu);
      continue;
    }
    const std::vector<device::GpuStatus> all = daemon_.cache->Gpus();
    if (all.empty()) {
      return Error(Reason::kDeviceUnavailable, "this node has no GPU that weightd can use",
                   "see `weightctl doctor` on this node");
    }
    for (const device::GpuStatus& gpu : all) {
      add(gpu.id);
    }
  }
  return gpus;
}

v1::GpuStatus AdminService::StatusOf(const GpuId& gpu) const {
  for (const device::GpuStatus& one : daemon_.cache->Gpus()) {
    if (one.id == gpu) {
      return ToProto(one);
    }
  }
  return {};
}

absl::Status AdminService::Drain(const v1::DrainGpuRequest& request,
                                 v1::DrainGpuResponse& response) const {
  ASSIGN_OR_RETURN(const GpuId gpu, daemon_.cache->FindGpu(request.gpu()));
  ASSIGN_OR_RETURN(const uint64_t freed, daemon_.cache->DrainGpu(gpu, request.force()));
  response.set_freed_bytes(freed);
  *response.mutable_gpu() = StatusOf(gpu);
  return absl::OkStatus();
}

absl::Status AdminService::Resume(const v1::ResumeGpuRequest& request,
                                  v1::ResumeGpuResponse& response) const {
  ASSIGN_OR_RETURN(const GpuId gpu, daemon_.cache->FindGpu(request.gpu()));
  RETURN_IF_ERROR(daemon_.cache->ResumeGpu(gpu));
  *response.mutable_gpu() = StatusOf(gpu);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::AnswerLater(grpc::CallbackServerContext* context,
                                                    std::function<absl::Status()> answer) {
  // Requested here: gRPC takes the handler's return for the call's reactor. The call, its request
  // and its answer live until it is finished, also if the caller leaves.
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::Status begun = blocking_calls_.Run([context, reactor, answer = std::move(answer)] {
    reactor->Finish(ToGrpcStatus(answer(), "", *context));
  });
  if (!begun.ok()) {
    reactor->Finish(ToGrpcStatus(begun, "", *context));
  }
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::DrainGpu(grpc::CallbackServerContext* context,
                                                 const v1::DrainGpuRequest* request,
                                                 v1::DrainGpuResponse* response) {
  return AnswerLater(context, [this, request, response] { return Drain(*request, *response); });
}

grpc::ServerUnaryReactor* AdminService::ResumeGpu(grpc::CallbackServerContext* context,
                                                  const v1::ResumeGpuRequest* request,
                                                  v1::ResumeGpuResponse* response) {
  return AnswerLater(context, [this, request, response] { return Resume(*request, *response); });
}

}  // namespace weightd::service
