#ifndef WEIGHTD_DAEMON_SERVICE_REQUEST_KEY_H_
#define WEIGHTD_DAEMON_SERVICE_REQUEST_KEY_H_

#include <optional>

#include "absl/status/statusor.h"
#include "daemon/pipeline/model_key.h"
#include "weightd/v1/admin.pb.h"

namespace weightd::service {

// Takes the key that came with a request, if one did, out of the message and wipes it there: gRPC's
// buffers, which nobody else reads and it uses again, are the only other place. kInvalidArgument
// for what is no key and no password.
absl::StatusOr<std::optional<pipeline::ModelKey>> TakeKey(v1::PreloadRequest& request);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_REQUEST_KEY_H_
