#ifndef WEIGHTD_DAEMON_SERVICE_GRPC_STATUS_H_
#define WEIGHTD_DAEMON_SERVICE_GRPC_STATUS_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightd::service {

// The one place where errors leave as gRPC's: code and message, and an ErrorDetail in the trailing
// metadata `weightd-error-bin` of `context`. `model` is what the caller called it; empty if the
// failure has no model. OK stays OK. Before the call's Finish.
grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view model,
                          grpc::ServerContextBase& context);

// Ends a call with one answer, which the service returns.
grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const absl::Status& status,
                                 absl::string_view model = {});

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_GRPC_STATUS_H_
