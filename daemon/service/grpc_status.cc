#include "daemon/service/grpc_status.h"

#include "common/utf8.h"
#include "daemon/service/error_detail.h"

namespace weightd::service {
namespace {

constexpr const char* kErrorKey = "weightd-error-bin";
constexpr const char* kRequestIdKey = "weightd-request-id";
// gRPC peers refuse more than 8 KiB of metadata in all, and message and detail both count.
constexpr size_t kLongestMessage = 1500;

}  // namespace

grpc::Status EndCall(Call& call, const absl::Status& outcome, grpc::ServerContextBase& context) {
  call.SetOutcome(outcome);
  if (outcome.ok()) {
    return grpc::Status::OK;
  }
  v1::ErrorDetail detail = ToErrorDetail(outcome, call.model());
  if (detail.message().size() > kLongestMessage) {
    detail.set_message(ToUtf8(absl::string_view(detail.message()).substr(0, kLongestMessage)));
  }
  context.AddTrailingMetadata(kErrorKey, detail.SerializeAsString());
  context.AddTrailingMetadata(kRequestIdKey, call.request_id());
  // The codes of Abseil are gRPC's.
  return {static_cast<grpc::StatusCode>(outcome.code()), detail.message()};
}

}  // namespace weightd::service
