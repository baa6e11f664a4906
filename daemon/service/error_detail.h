#ifndef WEIGHTD_DAEMON_SERVICE_ERROR_DETAIL_H_
#define WEIGHTD_DAEMON_SERVICE_ERROR_DETAIL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "weightd/v1/error.pb.h"

namespace weightd::service {

// `model` is what the caller called it; what may be secret of it is left out. Empty if the failure
// has no model. An error without a hint gets its reason's.
v1::ErrorDetail ToErrorDetail(const absl::Status& status, absl::string_view model);

// A model's name as a client sent it, for answers and logs: without query and user info, at most a
// few hundred bytes, and valid UTF-8 whatever was sent.
std::string RedactedName(absl::string_view model);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_ERROR_DETAIL_H_
