#include "daemon/service/misplaced_calls.h"

#include <google/protobuf/descriptor.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/service/grpc_status.h"
#include "weightd/v1/admin.pb.h"

namespace weightd::service {
namespace {

// Answers without reading.
class Refusal final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Refusal(grpc::Status status) { Finish(std::move(status)); }
  void OnDone() override { delete this; }
};

// Null for anything but an operator's call. "/weightd.v1.Admin/DrainNode" is what gRPC calls one.
const google::protobuf::MethodDescriptor* OperatorsCall(absl::string_view path) {
  const google::protobuf::ServiceDescriptor* const admin =
      v1::DrainNodeRequest::descriptor()->file()->FindServiceByName("Admin");
  return absl::ConsumePrefix(&path, absl::StrCat("/", admin->full_name(), "/"))
             ? admin->FindMethodByName(std::string(path))
             : nullptr;
}

}  // namespace

MisplacedCalls::MisplacedCalls(std::string listener, const Peers* peers, CallObserver* observer)
    : calls_(std::move(listener), peers, observer) {}

grpc::ServerGenericBidiReactor* MisplacedCalls::CreateReactor(
    grpc::GenericCallbackServerContext* context) {
  const auto* const asked = OperatorsCall(context->method());
  if (asked == nullptr) {
    return new Refusal({grpc::StatusCode::UNIMPLEMENTED, ""});
  }
  // Not by its own name, by which the audit knows what operators did.
  Call call = calls_.Begin(*context, {"Admin", {}, asked->name()});
  const absl::Status refused = Error(
      Reason::kNotAllowed,
      absl::StrCat(asked->name(), " is for operators, and this socket is for clients"),
      "operators call over admin.sock, in the folder that socket_dir of the daemon's config names, "
      "or over admin.tcp");
  return new Refusal(EndCall(call, refused, *context));
}

}  // namespace weightd::service
