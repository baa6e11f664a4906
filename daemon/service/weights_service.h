#ifndef WEIGHTD_DAEMON_SERVICE_WEIGHTS_SERVICE_H_
#define WEIGHTD_DAEMON_SERVICE_WEIGHTS_SERVICE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/cache/cache.h"
#include "daemon/service/access.h"
#include "daemon/service/call_record.h"
#include "daemon/service/calls.h"
#include "daemon/service/connection_acceptor.h"
#include "daemon/service/model_names.h"
#include "daemon/service/rate_limit.h"
#include "daemon/service/sessions.h"
#include "daemon/source/source.h"
#include "weightd/v1/weights.grpc.pb.h"

namespace weightd::service {

// What one listener's clients may call. Every call proves its session; what the listener may not
// see is answered like what doesn't exist.
class WeightsService final : public v1::Weights::CallbackService {
 public:
  // Everything outlives the service.
  struct Daemon {
    cache::Cache* cache;
    Sessions* sessions;
    const ModelNames* names;
    const Peers* peers;
    RateLimit* calls;
    CallObserver* observer;
  };

  WeightsService(std::string listener, Access access, Daemon daemon);

  grpc::ServerWriteReactor<v1::AcquireResponse>* Acquire(
      grpc::CallbackServerContext* context, const v1::AcquireRequest* request) override;
  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context,
                                    const v1::ReleaseRequest* request,
                                    v1::ReleaseResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  // Whether the caller has not called too often.
  absl::Status CheckRate(const Caller& caller) const;
  // The session whose token the call carries, and its user.
  absl::StatusOr<cache::Holder> HolderOf(const grpc::CallbackServerContext& context,
                                         const Caller& caller) const;
  // Both.
  absl::StatusOr<cache::Holder> AdmittedHolder(const grpc::CallbackServerContext& context,
                                               const Caller& caller) const;
  absl::StatusOr<Uri> Resolve(const std::string& model) const;
  // The policy of its loads has what they may not bring.
  Decision Decide(const Uri& uri) const;
  // Whether its clients may know of a model, by its name and by the files that it is resident of.
  bool Visible(const Uri& uri) const;
  absl::StatusOr<cache::AcquireRequest> Admit(const grpc::CallbackServerContext& context,
                                              const Call& call,
                                              const v1::AcquireRequest& request) const;
  absl::Status List(const v1::ListModelsRequest& request, v1::ListModelsResponse& response) const;
  absl::Status Get(const v1::GetModelRequest& request, v1::GetModelResponse& response) const;

  const std::string listener_;
  const Access access_;
  const Daemon daemon_;
  // Null if it denies nothing.
  const std::shared_ptr<const source::Denial> denied_;
  const Calls calls_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_WEIGHTS_SERVICE_H_
