#ifndef WEIGHTD_DAEMON_SERVICE_ADMIN_SERVICE_H_
#define WEIGHTD_DAEMON_SERVICE_ADMIN_SERVICE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"
#include "daemon/cache/cache.h"
#include "daemon/service/blocking_calls.h"
#include "daemon/service/call_record.h"
#include "daemon/service/calls.h"
#include "daemon/service/connection_acceptor.h"
#include "daemon/service/event_stream.h"
#include "daemon/service/model_names.h"
#include "weightd/v1/admin.grpc.pb.h"

namespace weightd::service {

// What operators may call: everything, and over TCP all that brings no secret. Who may connect is
// up to the socket's mode and to the TCP listener's certificates.
class AdminService final : public v1::Admin::CallbackService {
 public:
  // Names, folders and sessions of the listeners; leases, their bytes and quotas are filled in
  // here.
  using Listeners = std::function<std::vector<v1::ListenerStatus>()>;

  // The names of the level in use, and of the one before that another name puts in its place.
  struct LogLevels {
    std::function<std::string()> current;
    std::function<absl::StatusOr<std::string>(const std::string& level)> change;
  };
  // May read files and wait for loads to be cancelled.
  using ReadAgain = std::function<absl::StatusOr<v1::ReloadConfigResponse>()>;
  using ConfiguredModels = std::function<std::vector<v1::ConfiguredModel>()>;

  // Everything outlives the service.
  struct Daemon {
    cache::Cache* cache;
    const ModelNames* names;
    Listeners listeners;
    absl::Time started;
    const Peers* peers;
    CallObserver* observer;
    LogLevels log_levels;
    ReadAgain read_config_again = {};
    ConfiguredModels configured_models = {};
    // In Prometheus' text format.
    std::function<std::string()> metrics = {};
    // Empty if there is no keeper.
    std::function<v1::KeeperStatus()> keeper = {};
  };

  explicit AdminService(Daemon daemon);

  grpc::ServerWriteReactor<v1::PreloadResponse>* Preload(
      grpc::CallbackServerContext* context, const v1::PreloadRequest* request) override;
  grpc::ServerUnaryReactor* Evict(grpc::CallbackServerContext* context,
                                  const v1::EvictRequest* request,
                                  v1::EvictResponse* response) override;
  grpc::ServerUnaryReactor* Pin(grpc::CallbackServerContext* context, const v1::PinRequest* request,
                                v1::PinResponse* response) override;
  grpc::ServerUnaryReactor* Unpin(grpc::CallbackServerContext* context,
                                  const v1::UnpinRequest* request,
                                  v1::UnpinResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* DescribeModel(grpc::CallbackServerContext* context,
                                          const v1::DescribeModelRequest* request,
                                          v1::DescribeModelResponse* response) override;
  grpc::ServerUnaryReactor* ListLeases(grpc::CallbackServerContext* context,
                                       const v1::ListLeasesRequest* request,
                                       v1::ListLeasesResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchEventsResponse>* WatchEvents(
      grpc::CallbackServerContext* context, const v1::WatchEventsRequest* request) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* SetLogLevel(grpc::CallbackServerContext* context,
                                        const v1::SetLogLevelRequest* request,
                                        v1::SetLogLevelResponse* response) override;
  grpc::ServerUnaryReactor* ListConfiguredModels(
      grpc::CallbackServerContext* context, const v1::ListConfiguredModelsRequest* request,
      v1::ListConfiguredModelsResponse* response) override;
  grpc::ServerUnaryReactor* ReloadConfig(grpc::CallbackServerContext* context,
                                         const v1::ReloadConfigRequest* request,
                                         v1::ReloadConfigResponse* response) override;
  grpc::ServerUnaryReactor* GetMetrics(grpc::CallbackServerContext* context,
                                       const v1::GetMetricsRequest* request,
                                       v1::GetMetricsResponse* response) override;
  // Both may wait for a process to end, and so run on threads of their own.
  grpc::ServerUnaryReactor* DrainGpu(grpc::CallbackServerContext* context,
                                     const v1::DrainGpuRequest* request,
                                     v1::DrainGpuResponse* response) override;
  grpc::ServerUnaryReactor* ResumeGpu(grpc::CallbackServerContext* context,
                                      const v1::ResumeGpuRequest* request,
                                      v1::ResumeGpuResponse* response) override;
  // Waits for loads, and so on a thread of its own.
  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context,
                                      const v1::DrainNodeRequest* request,
                                      v1::DrainNodeResponse* response) override;
  grpc::ServerUnaryReactor* ResumeNode(grpc::CallbackServerContext* context,
                                       const v1::ResumeNodeRequest* request,
                                       v1::ResumeNodeResponse* response) override;

 private:
  absl::Status Describe(const v1::DescribeModelRequest& request,
                        v1::DescribeModelResponse& response) const;
  absl::Status Leases(const v1::ListLeasesRequest& request, v1::ListLeasesResponse& response) const;
  // Takes the request's secret.
  absl::StatusOr<cache::PreloadRequest> Admit(const Call& call, v1::PreloadRequest& request) const;
  // Each once; "all" is every GPU of the node.
  absl::StatusOr<std::vector<GpuId>> GpusNamed(
      const google::protobuf::RepeatedPtrField<std::string>& names) const;
  absl::StatusOr<cache::EvictResult> EvictFrom(const v1::EvictRequest& request) const;
  absl::Status Drain(const v1::DrainGpuRequest& request, v1::DrainGpuResponse& response) const;
  absl::Status Drain(const v1::DrainNodeRequest& request, v1::DrainNodeResponse& response) const;
  absl::Status Resume(const v1::ResumeGpuRequest& request, v1::ResumeGpuResponse& response) const;
  v1::GpuStatus StatusOf(const GpuId& gpu) const;
  // What of a request the audit log shows beside the model.
  static std::string DetailsOf(absl::string_view gpus, absl::string_view flag);
  absl::StatusOr<v1::ModelSummary> SetPinned(const std::string& model, bool pinned) const;
  void FillStatus(v1::GetStatusResponse& response) const;

  const Daemon daemon_;
  const Calls calls_;
  EventWriter event_writer_;
  BlockingCalls blocking_calls_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_ADMIN_SERVICE_H_
