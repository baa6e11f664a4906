#ifndef WEIGHTD_DAEMON_PIPELINE_PARALLEL_H_
#define WEIGHTD_DAEMON_PIPELINE_PARALLEL_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace weightd::pipeline {

// Calls `step` for each number below `count`, several at a time, for steps that mostly wait. After
// a failure no further ones begin; the first failure is returned, once all that began have ended.
absl::Status ForEachAtOnce(size_t count, absl::FunctionRef<absl::Status(size_t)> step);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_PARALLEL_H_
