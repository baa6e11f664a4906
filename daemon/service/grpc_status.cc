#include "daemon/service/grpc_status.h"

#include "common/utf8.h"
#include "daemon/service/error_detail.h"

namespace weightd::service {
namespace {

constexpr const char* kErrorKey = "weightd-error-bin";
// gRPC peers refuse more than 8 KiB of metadata in all, and message and detail both count.
constexpr size_t kLongestMessage = 1500;

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view model,
                          grpc::ServerContextBase& context) {
  if (status.ok()) {
    return grpc::Status::OK;
  }
  v1::ErrorDetail detail = ToErrorDetail(status, model);
  if (detail.message().size() > kLongestMessage) {
    detail.set_message(ToUtf8(absl::string_view(detail.message()).substr(0, kLongestMessage)));
  }
  context.AddTrailingMetadata(kErrorKey, detail.SerializeAsString());
  // The codes of Abseil are gRPC's.
  return {static_cast<grpc::StatusCode>(status.code()), detail.message()};
}

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const absl::Status& status,
                                 absl::string_view model) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status, model, *context));
  return reactor;
}

}  // namespace weightd::service
