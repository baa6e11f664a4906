#ifndef WEIGHTD_DAEMON_CONVERT_KEY_TRIAL_H_
#define WEIGHTD_DAEMON_CONVERT_KEY_TRIAL_H_

#include "absl/status/status.h"
#include "common/cancellation.h"
#include "daemon/convert/input.h"
#include "daemon/pipeline/tensor_keys.h"

namespace weightd::convert {

// Whether the key, if one was given, opens any of the first tensors: kKeyRefused if not. What a key
// that does can't open was changed. Of tensors that can't be tried nothing is said here.
absl::Status TryKey(const Input& input, pipeline::TensorKeys& keys, Cancellation& cancellation);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_KEY_TRIAL_H_
