#include "client/cpp/admin_client.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/daemon_gone.h"
#include "client/cpp/rpc.h"
#include "client/cpp/socket_dir.h"
#include "client/cpp/tls_channel.h"
#include "common/status.h"
#include "common/wipe.h"

namespace weightd::client {
namespace {

constexpr uint32_t kPageSize = 1000;
// For a process that takes its time to end, or has to be killed.
constexpr absl::Duration kWorkerPatience = absl::Minutes(1);

// For loads that are stopped, and a keeper.
constexpr absl::Duration kDrainPatience = absl::Seconds(10);

void WipeSecret(v1::PreloadRequest& request) {
  if (request.secret().has_key()) {
    Wipe(*request.mutable_secret()->mutable_key());
  } else if (request.secret().has_password()) {
    Wipe(*request.mutable_secret()->mutable_password());
  }
}

}  // namespace

AdminClient::AdminClient(std::unique_ptr<v1::Admin::Stub> stub, std::string where,
                         absl::Duration timeout)
    : stub_(std::move(stub)), where_(std::move(where)), timeout_(timeout) {}

absl::StatusOr<AdminClient> AdminClient::Connect(const Options& options) {
  const absl::Time deadline = absl::Now() + options.timeout;
  if (!options.remote.address.empty()) {
    ASSIGN_OR_RETURN(auto channel, OpenTlsChannel(options.remote, deadline));
    return AdminClient(v1::Admin::NewStub(channel), options.remote.address, options.timeout);
  }
  std::string path = absl::StrCat(ResolveSocketDir(options.socket_dir), "/admin.sock");
  ASSIGN_OR_RETURN(auto channel, OpenChannel(path, deadline));
  return AdminClient(v1::Admin::NewStub(channel), std::move(path), options.timeout);
}

template <typename Request, typename Response>
absl::StatusOr<Response> AdminClient::Call(
    grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    const Request& request, absl::Duration more_time, Cancellation* cancellation) const {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + timeout_ + more_time);
  Cancellation never;
  const auto cancelled = (cancellation != nullptr ? cancellation : &never)->OnCancel([&context] {
    context.TryCancel();
  });
  Response response;
  const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
  if (cancellation != nullptr && status.error_code() == grpc::StatusCode::CANCELLED) {
    RETURN_IF_ERROR(cancellation->status());
  }
  RETURN_IF_ERROR(FromRpc(status, context, where_));
  return response;
}

absl::StatusOr<v1::GetStatusResponse> AdminClient::GetStatus() const {
  return Call(&v1::Admin::Stub::GetStatus, v1::GetStatusRequest());
}

absl::StatusOr<v1::ModelSummary> AdminClient::Preload(
    absl::string_view model, const PreloadOptions& options,
    const std::function<bool(const v1::LoadProgress&)>& progress) const {
  if (!(options.key.empty() && options.password.empty()) && !IsSocketPath(where_)) {
    return Error(Reason::kUnsupported, "a daemon takes no secrets over the network",
                 "run this on its node, or name the key's file in the daemon's config (keys)");
  }
  grpc::ClientContext context;
  SetDeadline(context, options.deadline);
  v1::PreloadRequest request;
  request.set_model(std::string(model));
  request.set_pin(options.pin);
  request.mutable_sha256()->insert(options.pins.begin(), options.pins.end());
  request.mutable_gpus()->Add(options.gpus.begin(), options.gpus.end());
  if (!options.key.empty()) {
    request.mutable_secret()->set_key(options.key.data(), options.key.size());
  } else if (!options.password.empty()) {
    request.mutable_secret()->set_password(options.password.data(), options.password.size());
  }
  const auto stream = stub_->Preload(&context, request);
  // It has been sent.
  WipeSecret(request);
  v1::PreloadResponse response;
  v1::ModelSummary summary;
  bool watching = true;
  while (watching && stream->Read(&response)) {
    if (response.has_model()) {
      summary = std::move(*response.mutable_model());
    } else if (response.has_progress() && !progress(response.progress())) {
      watching = false;
      summary.set_model(request.model());
      summary.set_state(v1::LOADING);
      *summary.mutable_progress() = response.progress();
      context.TryCancel();
    }
  }
  const grpc::Status status = stream->Finish();
  if (watching) {
    RETURN_IF_ERROR(FromRpc(status, context, where_));
  }
  return summary;
}

absl::StatusOr<v1::EvictResponse> AdminClient::Evict(absl::string_view model, bool force,
                                                     absl::string_view gpu) const {
  v1::EvictRequest request;
  request.set_model(std::string(model));
  request.set_force(force);
  request.set_gpu(std::string(gpu));
  return Call(&v1::Admin::Stub::Evict, request);
}

absl::StatusOr<v1::DrainGpuResponse> AdminClient::DrainGpu(absl::string_view gpu,
                                                           bool force) const {
  v1::DrainGpuRequest request;
  request.set_gpu(std::string(gpu));
  request.set_force(force);
  return Call(&v1::Admin::Stub::DrainGpu, request, kWorkerPatience);
}

absl::StatusOr<v1::ResumeGpuResponse> AdminClient::ResumeGpu(absl::string_view gpu) const {
  v1::ResumeGpuRequest request;
  request.set_gpu(std::string(gpu));
  return Call(&v1::Admin::Stub::ResumeGpu, request, kWorkerPatience);
}

absl::StatusOr<v1::DrainNodeResponse> AdminClient::DrainNode(absl::Duration wait,
                                                             Cancellation* cancellation) const {
  v1::DrainNodeRequest request;
  absl::Duration part;
  request.mutable_wait()->set_seconds(absl::IDivDuration(wait, absl::Seconds(1), &part));
  request.mutable_wait()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(part)));
  return Call(&v1::Admin::Stub::DrainNode, request, wait + kDrainPatience, cancellation);
}

absl::StatusOr<v1::ResumeNodeResponse> AdminClient::ResumeNode() const {
  return Call(&v1::Admin::Stub::ResumeNode, v1::ResumeNodeRequest());
}

absl::StatusOr<v1::ModelSummary> AdminClient::Pin(absl::string_view model) const {
  v1::PinRequest request;
  request.set_model(std::string(model));
  ASSIGN_OR_RETURN(auto response, Call(&v1::Admin::Stub::Pin, request));
  return std::move(*response.mutable_model());
}

absl::StatusOr<v1::ModelSummary> AdminClient::Unpin(absl::string_view model) const {
  v1::UnpinRequest request;
  request.set_model(std::string(model));
  ASSIGN_OR_RETURN(auto response, Call(&v1::Admin::Stub::Unpin, request));
  return std::move(*response.mutable_model());
}

absl::StatusOr<std::vector<v1::ModelSummary>> AdminClient::ListModels() const {
  std::vector<v1::ModelSummary> models;
  v1::ListModelsRequest request;
  request.set_page_size(kPageSize);
  do {
    ASSIGN_OR_RETURN(auto page, Call(&v1::Admin::Stub::ListModels, request));
    for (v1::ModelSummary& model : *page.mutable_models()) {
      models.push_back(std::move(model));
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return models;
}

absl::StatusOr<v1::DescribeModelResponse> AdminClient::DescribeModel(absl::string_view model,
                                                                     bool tensors) const {
  v1::DescribeModelRequest request;
  request.set_model(std::string(model));
  request.set_page_size(tensors ? kPageSize : 1);
  ASSIGN_OR_RETURN(v1::DescribeModelResponse whole, Call(&v1::Admin::Stub::DescribeModel, request));
  if (!tensors) {
    whole.clear_tensors();
    whole.clear_next_page_token();
  }
  while (!whole.next_page_token().empty()) {
    request.set_page_token(whole.next_page_token());
    ASSIGN_OR_RETURN(auto page, Call(&v1::Admin::Stub::DescribeModel, request));
    whole.mutable_tensors()->MergeFrom(page.tensors());
    whole.set_next_page_token(page.next_page_token());
  }
  return whole;
}

absl::StatusOr<std::vector<v1::Lease>> AdminClient::ListLeases(absl::string_view model) const {
  v1::ListLeasesRequest request;
  request.set_model(std::string(model));
  ASSIGN_OR_RETURN(const auto response, Call(&v1::Admin::Stub::ListLeases, request));
  return std::vector<v1::Lease>(response.leases().begin(), response.leases().end());
}

absl::StatusOr<std::vector<v1::ConfiguredModel>> AdminClient::ListConfiguredModels() const {
  ASSIGN_OR_RETURN(const auto response,
                   Call(&v1::Admin::Stub::ListConfiguredModels, v1::ListConfiguredModelsRequest()));
  return std::vector<v1::ConfiguredModel>(response.models().begin(), response.models().end());
}

absl::StatusOr<v1::ReloadConfigResponse> AdminClient::ReloadConfig() const {
  return Call(&v1::Admin::Stub::ReloadConfig, v1::ReloadConfigRequest());
}

absl::StatusOr<v1::SetLogLevelResponse> AdminClient::SetLogLevel(absl::string_view level) const {
  v1::SetLogLevelRequest request;
  request.set_level(std::string(level));
  return Call(&v1::Admin::Stub::SetLogLevel, request);
}

absl::StatusOr<v1::GetMetricsResponse> AdminClient::GetMetrics() const {
  return Call(&v1::Admin::Stub::GetMetrics, v1::GetMetricsRequest());
}

std::unique_ptr<EventStream> AdminClient::OpenEvents() const {
  return std::make_unique<EventStream>(*stub_, where_);
}

}  // namespace weightd::client
