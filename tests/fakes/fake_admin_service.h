#ifndef WEIGHTD_TESTS_FAKES_FAKE_ADMIN_SERVICE_H_
#define WEIGHTD_TESTS_FAKES_FAKE_ADMIN_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <string>

#include "tests/fakes/fake_daemon.h"
#include "weightd/v1/admin.grpc.pb.h"

namespace weightd::fakes {

// What a call that the fake refuses says.
inline grpc::Status Refusal(grpc::ServerContext* context, const v1::ErrorDetail& detail,
                            grpc::StatusCode code) {
  context->AddTrailingMetadata("weightd-error-bin", detail.SerializeAsString());
  return {code, detail.message()};
}

// What operators may ask of a FakeDaemon.
class FakeDaemon::AdminService final : public v1::Admin::Service {
 public:
  explicit AdminService(FakeDaemon* daemon) : daemon_(*daemon) {}

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest*,
                         v1::GetStatusResponse* response) override;
  grpc::Status ListConfiguredModels(grpc::ServerContext*, const v1::ListConfiguredModelsRequest*,
                                    v1::ListConfiguredModelsResponse* response) override;
  grpc::Status ReloadConfig(grpc::ServerContext*, const v1::ReloadConfigRequest*,
                            v1::ReloadConfigResponse* response) override;
  grpc::Status SetLogLevel(grpc::ServerContext*, const v1::SetLogLevelRequest* request,
                           v1::SetLogLevelResponse* response) override;
  grpc::Status GetMetrics(grpc::ServerContext*, const v1::GetMetricsRequest*,
                          v1::GetMetricsResponse* response) override;
  grpc::Status Preload(grpc::ServerContext*, const v1::PreloadRequest* request,
                       grpc::ServerWriter<v1::PreloadResponse>* writer) override;
  grpc::Status Evict(grpc::ServerContext*, const v1::EvictRequest* request,
                     v1::EvictResponse* response) override;
  grpc::Status WatchEvents(grpc::ServerContext*, const v1::WatchEventsRequest*,
                           grpc::ServerWriter<v1::WatchEventsResponse>* writer) override;
  grpc::Status DrainGpu(grpc::ServerContext* context, const v1::DrainGpuRequest* request,
                        v1::DrainGpuResponse* response) override;
  grpc::Status ResumeGpu(grpc::ServerContext* context, const v1::ResumeGpuRequest* request,
                         v1::ResumeGpuResponse* response) override;
  // A load for each second that it may go on.
  grpc::Status DrainNode(grpc::ServerContext*, const v1::DrainNodeRequest* request,
                         v1::DrainNodeResponse* response) override;
  grpc::Status ResumeNode(grpc::ServerContext*, const v1::ResumeNodeRequest*,
                          v1::ResumeNodeResponse* response) override;
  // One model a page.
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override;
  // One tensor a page.
  grpc::Status DescribeModel(grpc::ServerContext* context, const v1::DescribeModelRequest* request,
                             v1::DescribeModelResponse* response) override;

 private:
  grpc::Status SetState(grpc::ServerContext* context, const std::string& named,
                        v1::GpuStatus::State state, v1::GpuStatus& result);

  FakeDaemon& daemon_;
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_ADMIN_SERVICE_H_
