#ifndef WEIGHTD_DAEMON_CONVERT_WORKERS_H_
#define WEIGHTD_DAEMON_CONVERT_WORKERS_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/cancellation.h"
#include "daemon/convert/input.h"
#include "daemon/convert/tensor_reader.h"

namespace weightd::convert {

// Calls `step` for each number below `count`, several at a time, each with a reader that is its own
// meanwhile. After a failure the others are stopped; the first failure is returned, once all have
// ended. `cancellation` stops them, too.
absl::Status ForEachTensor(
    const Input& input, pipeline::VerifyPolicy policy, pipeline::TensorKeys& keys, size_t count,
    absl::FunctionRef<absl::Status(size_t, TensorReader&, Cancellation&)> step,
    Cancellation& cancellation);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_WORKERS_H_
