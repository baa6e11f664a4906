#ifndef WEIGHTD_DAEMON_SERVICE_NORMAL_PATTERN_H_
#define WEIGHTD_DAEMON_SERVICE_NORMAL_PATTERN_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightd::service {

// A pattern of models as it is held against their names, which are in normal form (see Uri): what
// is written otherwise, plain paths too, would match nothing, and so deny nothing. Left as it is
// where a run of characters may stand for the beginning of an escape or the end of a host.
// INVALID_ARGUMENT, with a hint of what to write, for what no name can be.
absl::StatusOr<std::string> NormalPattern(absl::string_view pattern);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_NORMAL_PATTERN_H_
