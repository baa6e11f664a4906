#ifndef WEIGHTD_DAEMON_CONVERT_WORKERS_H_
#define WEIGHTD_DAEMON_CONVERT_WORKERS_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "daemon/convert/batches.h"
#include "daemon/convert/input.h"
#include "daemon/convert/tensor_reader.h"

namespace weightd::convert {

enum class ReadOrder {
  // Those that began and haven't ended lie close together in the list.
  kAsGiven,
  // So that no worker is left with a large one when the others are done.
  kLargestFirst,
};

// Calls `step` for each tensor, by its number, with a reader that is to open it: several at a time,
// those of one batch one after another. After a failure the others are stopped; the first failure
// is returned, once all have ended. `cancellation` stops them, too.
absl::Status ForEachTensor(
    const Input& input, pipeline::VerifyPolicy policy, pipeline::TensorKeys& keys,
    absl::Span<const TensorPlace> tensors, ReadOrder order,
    absl::FunctionRef<absl::Status(size_t, TensorReader&, Cancellation&)> step,
    Cancellation& cancellation);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_WORKERS_H_
