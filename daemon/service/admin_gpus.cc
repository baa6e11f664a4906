// What operators do to GPUs.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/device/gpus.h"
#include "daemon/service/admin_service.h"
#include "daemon/service/convert.h"

namespace weightd::service {
namespace {

constexpr absl::string_view kAllGpus = "all";

}  // namespace

std::string AdminService::DetailsOf(absl::string_view gpus, absl::string_view flag) {
  // Longer than any name of a GPU.
  constexpr size_t kLongest = 100;
  return absl::StrCat(gpus.empty() ? "" : "gpu=", ToUtf8(gpus.substr(0, kLongest)),
                      gpus.empty() || flag.empty() ? "" : " ", flag);
}

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

grpc::ServerUnaryReactor* AdminService::DrainGpu(grpc::CallbackServerContext* context,
                                                 const v1::DrainGpuRequest* request,
                                                 v1::DrainGpuResponse* response) {
  const std::string details = DetailsOf(request->gpu(), request->force() ? "force" : "");
  return calls_.AnswerLater(context, {"DrainGpu", {}, details}, blocking_calls_,
                            [this, request, response] { return Drain(*request, *response); });
}

grpc::ServerUnaryReactor* AdminService::ResumeGpu(grpc::CallbackServerContext* context,
                                                  const v1::ResumeGpuRequest* request,
                                                  v1::ResumeGpuResponse* response) {
  return calls_.AnswerLater(context, {"ResumeGpu", {}, DetailsOf(request->gpu(), "")},
                            blocking_calls_,
                            [this, request, response] { return Resume(*request, *response); });
}

}  // namespace weightd::service
