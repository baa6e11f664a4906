#ifndef WEIGHTD_DAEMON_PIPELINE_MODEL_KEY_H_
#define WEIGHTD_DAEMON_PIPELINE_MODEL_KEY_H_

#include <functional>
#include <optional>

#include "absl/status/statusor.h"
#include "common/uri.h"
#include "daemon/format/secret_key.h"

namespace weightd::pipeline {

// What a model's tensors are decrypted with.
struct ModelKey {
  format::SecretKey secret;
  // The secret is a password, of which the key is made as the file says; else it is the key.
  bool password = false;

  bool operator==(const ModelKey&) const = default;
};

// The key of a model, if there is one for it; read anew for each load, so that it stays nowhere.
// Thread-safe.
using KeyOf = std::function<absl::StatusOr<std::optional<ModelKey>>(const Uri& model)>;

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_MODEL_KEY_H_
