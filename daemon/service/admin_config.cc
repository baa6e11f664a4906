// What operators ask of the config: its models, and to read it again.

#include <utility>

#include "common/status.h"
#include "daemon/service/admin_service.h"

namespace weightd::service {

grpc::ServerUnaryReactor* AdminService::ListConfiguredModels(
    grpc::CallbackServerContext* context, const v1::ListConfiguredModelsRequest* /*request*/,
    v1::ListConfiguredModelsResponse* response) {
  return calls_.Answer(context, {"ListConfiguredModels"}, [&](const Caller&) {
    for (v1::ConfiguredModel& model : daemon_.configured_models()) {
      *response->add_models() = std::move(model);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::ReloadConfig(grpc::CallbackServerContext* context,
                                                     const v1::ReloadConfigRequest* /*request*/,
                                                     v1::ReloadConfigResponse* response) {
  const auto answer = [this, response]() -> absl::Status {
    ASSIGN_OR_RETURN(*response, daemon_.read_config_again());
    return absl::OkStatus();
  };
  return calls_.AnswerLater(context, {"ReloadConfig"}, blocking_calls_, answer);
}

}  // namespace weightd::service
