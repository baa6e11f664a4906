#ifndef WEIGHTD_DAEMON_PIPELINE_MODEL_KEY_H_
#define WEIGHTD_DAEMON_PIPELINE_MODEL_KEY_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/uri.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/secret_key.h"

namespace weightd::pipeline {

// What a model's tensors are decrypted with.
struct ModelKey {
  format::SecretKey secret;
  // The secret is a password, of which the key is made as the file says; else it is the key.
  bool password = false;
  // Set for a key of AES-CTR, not of tensorizer's cipher: the IV of files that don't say theirs, or
  // an empty one.
  std::optional<std::string> ctr_iv = {};

  bool operator==(const ModelKey&) const = default;
};

// What `key` is to files that are encrypted with AES-CTR.
inline std::optional<format::CtrKey> CtrKeyOf(const std::optional<ModelKey>& key) {
  if (!key.has_value() || !key->ctr_iv.has_value()) {
    return std::nullopt;
  }
  return format::CtrKey{.key = key->secret, .iv = *key->ctr_iv};
}

// The key of a model, if there is one for it; read anew for each load, so that it stays nowhere.
// Thread-safe.
using KeyOf = std::function<absl::StatusOr<std::optional<ModelKey>>(const Uri& model)>;

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_MODEL_KEY_H_
