#ifndef WEIGHTD_CLIENT_CPP_ADMIN_CLIENT_H_
#define WEIGHTD_CLIENT_CPP_ADMIN_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/cpp/event_stream.h"
#include "client/cpp/remote_address.h"
#include "common/cancellation.h"
#include "common/pins.h"
#include "weightd/v1/admin.grpc.pb.h"

namespace weightd::client {

// What an operator asks of a daemon, over its admin.sock, or over the network where its config lets
// operators in. Thread-safe.
class AdminClient {
 public:
  struct Options {
    // As ConnectOptions::socket_dir.
    std::string socket_dir;
    // Of the connection, and of each call but Preload and WatchEvents. DrainGpu and ResumeGpu,
    // which wait for a process, have a minute more, and DrainNode as long as loads may go on.
    absl::Duration timeout = absl::Seconds(10);
    // Instead of socket_dir, if it has an address.
    RemoteAddress remote = {};
  };

  struct PreloadOptions {
    // Never evict it to make room.
    bool pin = false;
    // kVerificationFailed if they don't hold.
    Pins pins = {};
    // What opens the model if it is encrypted: a key of 32 bytes, or a password. Of what this makes
    // of it only gRPC's buffers are not wiped when it has been sent. Only over admin.sock.
    absl::string_view key = {};
    absl::string_view password = {};
    // Also to these GPUs: UUIDs, indices as the daemon counts them, or "all".
    std::vector<std::string> gpus = {};
    absl::Time deadline = absl::InfiniteFuture();
  };

  static absl::StatusOr<AdminClient> Connect(const Options& options);

  absl::StatusOr<v1::GetStatusResponse> GetStatus() const;
  // Loads a model. `progress` is called in this thread until the model is resident or the deadline
  // passes; if it returns false, the load goes on unwatched and the result says only that it is
  // LOADING.
  absl::StatusOr<v1::ModelSummary> Preload(
      absl::string_view model, const PreloadOptions& options,
      const std::function<bool(const v1::LoadProgress&)>& progress) const;
  // Only the copy on `gpu` (a UUID or index) if it is not empty.
  absl::StatusOr<v1::EvictResponse> Evict(absl::string_view model, bool force,
                                          absl::string_view gpu = {}) const;
  absl::StatusOr<v1::ModelSummary> Pin(absl::string_view model) const;
  absl::StatusOr<v1::ModelSummary> Unpin(absl::string_view model) const;
  // Until no process of weightd is on the GPU.
  absl::StatusOr<v1::DrainGpuResponse> DrainGpu(absl::string_view gpu, bool force) const;
  absl::StatusOr<v1::ResumeGpuResponse> ResumeGpu(absl::string_view gpu) const;
  // Loads that run may go on for `wait`. The drain goes on in the daemon after `cancellation`, if
  // there is one, which ends only the wait for its end.
  absl::StatusOr<v1::DrainNodeResponse> DrainNode(absl::Duration wait,
                                                  Cancellation* cancellation = nullptr) const;
  absl::StatusOr<v1::ResumeNodeResponse> ResumeNode() const;
  // All pages.
  absl::StatusOr<std::vector<v1::ModelSummary>> ListModels() const;
  // All pages of its tensors if `tensors`; else none.
  absl::StatusOr<v1::DescribeModelResponse> DescribeModel(absl::string_view model,
                                                          bool tensors) const;
  // Of all models if `model` is empty.
  absl::StatusOr<std::vector<v1::Lease>> ListLeases(absl::string_view model) const;
  // The config's models, by name.
  absl::StatusOr<std::vector<v1::ConfiguredModel>> ListConfiguredModels() const;
  absl::StatusOr<v1::ReloadConfigResponse> ReloadConfig() const;
  // "debug", "info", "warning" or "error".
  absl::StatusOr<v1::SetLogLevelResponse> SetLogLevel(absl::string_view level) const;
  absl::StatusOr<v1::GetMetricsResponse> GetMetrics() const;
  // What happens from now on, until the daemon ends.
  std::unique_ptr<EventStream> OpenEvents() const;

 private:
  AdminClient(std::unique_ptr<v1::Admin::Stub> stub, std::string where, absl::Duration timeout);

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*,
                                                                        const Request&, Response*),
                                const Request& request,
                                absl::Duration more_time = absl::ZeroDuration(),
                                Cancellation* cancellation = nullptr) const;

  std::unique_ptr<v1::Admin::Stub> stub_;
  // A socket's path, or an address.
  std::string where_;
  absl::Duration timeout_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_ADMIN_CLIENT_H_
