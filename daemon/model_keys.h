#ifndef WEIGHTD_DAEMON_MODEL_KEYS_H_
#define WEIGHTD_DAEMON_MODEL_KEYS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/uri.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/service/access.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// The keys that the config names for encrypted models. Secrets are read when a load needs them, and
// kept no longer. Thread-safe.
class ModelKeys {
 public:
  // `keys` were checked.
  static absl::StatusOr<ModelKeys> Make(
      const google::protobuf::RepeatedPtrField<v1::KeyConfig>& keys);

  // The first whose patterns match. kKeyMissing if its secret can't be read, or is no key.
  absl::StatusOr<std::optional<pipeline::ModelKey>> For(const Uri& model) const;

 private:
  struct Entry {
    std::vector<service::Pattern> models;
    v1::KeyConfig config;
  };
  std::vector<Entry> entries_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_MODEL_KEYS_H_
