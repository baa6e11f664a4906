#ifndef WEIGHTD_DAEMON_SERVICE_GRPC_STATUS_H_
#define WEIGHTD_DAEMON_SERVICE_GRPC_STATUS_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "daemon/service/call.h"

namespace weightd::service {

// The one place where calls get their outcome, and where errors leave as gRPC's: code and message,
// and in the trailing metadata of `context` an ErrorDetail (`weightd-error-bin`) and the call's
// request id (`weightd-request-id`). OK stays OK. Before the call's Finish.
grpc::Status EndCall(Call& call, const absl::Status& outcome, grpc::ServerContextBase& context);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_GRPC_STATUS_H_
