#include "tests/fakes/fake_admin_service.h"

#include "absl/strings/str_cat.h"

namespace weightd::fakes {

grpc::Status FakeDaemon::AdminService::GetStatus(grpc::ServerContext* context,
                                                 const v1::GetStatusRequest*,
                                                 v1::GetStatusResponse* response) {
  const v1::ErrorDetail error = daemon_.faults().error;
  if (!error.message().empty()) {
    return Refusal(context, error, grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  response->set_version("fake");
  response->mutable_host()->set_budget(1 << 30);
  response->set_leases(static_cast<uint32_t>(daemon_.leases()));
  const absl::MutexLock lock(&daemon_.mutex_);
  response->mutable_gpus()->Add(daemon_.gpus_.begin(), daemon_.gpus_.end());
  response->set_source_revision("0123abc");
  response->set_log_level(daemon_.log_level_);
  response->MergeFrom(daemon_.faults_.status);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::ListConfiguredModels(
    grpc::ServerContext*, const v1::ListConfiguredModelsRequest*,
    v1::ListConfiguredModelsResponse* response) {
  const absl::MutexLock lock(&daemon_.mutex_);
  response->mutable_models()->Add(daemon_.configured_.begin(), daemon_.configured_.end());
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::ReloadConfig(grpc::ServerContext*,
                                                    const v1::ReloadConfigRequest*,
                                                    v1::ReloadConfigResponse* response) {
  *response = daemon_.faults().reloaded;
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::SetLogLevel(grpc::ServerContext*,
                                                   const v1::SetLogLevelRequest* request,
                                                   v1::SetLogLevelResponse* response) {
  const absl::MutexLock lock(&daemon_.mutex_);
  response->set_previous(daemon_.log_level_);
  daemon_.log_level_ = request->level();
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::GetMetrics(grpc::ServerContext*,
                                                  const v1::GetMetricsRequest*,
                                                  v1::GetMetricsResponse* response) {
  response->set_text("# TYPE weightd_sessions gauge\nweightd_sessions 0\n");
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::Preload(grpc::ServerContext*,
                                               const v1::PreloadRequest* request,
                                               grpc::ServerWriter<v1::PreloadResponse>* writer) {
  {
    const absl::MutexLock lock(&daemon_.mutex_);
    daemon_.secret_ = request->secret();
    daemon_.named_gpus_.assign(request->gpus().begin(), request->gpus().end());
  }
  v1::PreloadResponse response;
  for (const v1::LoadProgress& progress : daemon_.faults().progress) {
    *response.mutable_progress() = progress;
    writer->Write(response);
  }
  response.mutable_model()->set_model(request->model());
  response.mutable_model()->set_state(v1::RESIDENT);
  response.mutable_model()->set_pinned(request->pin());
  for (const std::string& gpu : request->gpus()) {
    response.mutable_model()->add_gpu_copies()->set_gpu(gpu);
  }
  writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::Evict(grpc::ServerContext*, const v1::EvictRequest* request,
                                             v1::EvictResponse* response) {
  const absl::MutexLock lock(&daemon_.mutex_);
  daemon_.named_gpus_ = {request->gpu()};
  response->set_freed_bytes(1 << 20);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::WatchEvents(
    grpc::ServerContext*, const v1::WatchEventsRequest*,
    grpc::ServerWriter<v1::WatchEventsResponse>* writer) {
  for (const v1::Event& event : daemon_.faults().events) {
    v1::WatchEventsResponse response;
    *response.mutable_event() = event;
    writer->Write(response);
  }
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::DrainGpu(grpc::ServerContext* context,
                                                const v1::DrainGpuRequest* request,
                                                v1::DrainGpuResponse* response) {
  response->set_freed_bytes(request->force() ? 1 << 20 : 0);
  return SetState(context, request->gpu(), v1::GpuStatus::DRAINED, *response->mutable_gpu());
}

grpc::Status FakeDaemon::AdminService::ResumeGpu(grpc::ServerContext* context,
                                                 const v1::ResumeGpuRequest* request,
                                                 v1::ResumeGpuResponse* response) {
  return SetState(context, request->gpu(), v1::GpuStatus::IDLE, *response->mutable_gpu());
}

grpc::Status FakeDaemon::AdminService::DrainNode(grpc::ServerContext*,
                                                 const v1::DrainNodeRequest* request,
                                                 v1::DrainNodeResponse* response) {
  if (const v1::DrainNodeResponse told = daemon_.faults().drained; told.ByteSizeLong() > 0) {
    *response = told;
    return grpc::Status::OK;
  }
  response->set_loads_ended(static_cast<uint64_t>(request->wait().seconds()));
  response->set_loads_stopped(1);
  response->set_kept_models(2);
  response->set_kept_bytes(3 << 20);
  response->set_handed_over(true);
  response->mutable_keeper()->set_place("/run/weightd/keeper");
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::ResumeNode(grpc::ServerContext*,
                                                  const v1::ResumeNodeRequest*,
                                                  v1::ResumeNodeResponse* response) {
  response->set_was_draining(true);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::ListModels(grpc::ServerContext*,
                                                  const v1::ListModelsRequest* request,
                                                  v1::ListModelsResponse* response) {
  const absl::MutexLock lock(&daemon_.mutex_);
  auto next = request->page_token().empty() ? daemon_.models_.begin()
                                            : daemon_.models_.find(request->page_token());
  if (next != daemon_.models_.end()) {
    v1::ModelSummary* model = response->add_models();
    model->set_model(next->first);
    model->set_state(v1::RESIDENT);
    model->set_host_bytes(next->second.bytes.size());
    model->set_tensor_count(next->second.index.layout().pieces_size());
    if (++next != daemon_.models_.end()) {
      response->set_next_page_token(next->first);
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::DescribeModel(grpc::ServerContext* context,
                                                     const v1::DescribeModelRequest* request,
                                                     v1::DescribeModelResponse* response) {
  const absl::MutexLock lock(&daemon_.mutex_);
  if (!daemon_.models_.contains(request->model())) {
    v1::ErrorDetail detail;
    detail.set_reason(v1::MODEL_NOT_RESIDENT);
    detail.set_message("no such model");
    return Refusal(context, detail, grpc::StatusCode::FAILED_PRECONDITION);
  }
  const v1::TensorIndex& index = daemon_.models_.at(request->model()).index;
  const int next = request->page_token().empty() ? 0 : std::stoi(request->page_token());
  response->mutable_model()->set_model(request->model());
  response->mutable_model()->set_state(v1::RESIDENT);
  *response->add_tensors() = index.layout().pieces(next);
  if (next + 1 < index.layout().pieces_size()) {
    response->set_next_page_token(std::to_string(next + 1));
  }
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::AdminService::SetState(grpc::ServerContext* context,
                                                const std::string& named,
                                                v1::GpuStatus::State state, v1::GpuStatus& result) {
  const absl::MutexLock lock(&daemon_.mutex_);
  daemon_.named_gpus_ = {named};
  for (v1::GpuStatus& gpu : daemon_.gpus_) {
    if (absl::StrCat(gpu.index()) == named) {
      gpu.set_state(state);
      result = gpu;
      return grpc::Status::OK;
    }
  }
  v1::ErrorDetail detail;
  detail.set_reason(v1::DEVICE_UNAVAILABLE);
  detail.set_message("no such GPU");
  return Refusal(context, detail, grpc::StatusCode::UNAVAILABLE);
}

}  // namespace weightd::fakes
