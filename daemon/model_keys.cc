#include "daemon/model_keys.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/status.h"
#include "daemon/pipeline/read_key.h"
#include "daemon/service/normal_pattern.h"

namespace weightd {

absl::StatusOr<ModelKeys> ModelKeys::Make(
    const google::protobuf::RepeatedPtrField<v1::KeyConfig>& keys) {
  ModelKeys made;
  for (const v1::KeyConfig& key : keys) {
    Entry entry;
    entry.config = key;
    for (const std::string& model : key.models()) {
      ASSIGN_OR_RETURN(const std::string normal, service::NormalPattern(model));
      ASSIGN_OR_RETURN(service::Pattern pattern, service::Pattern::Parse(normal));
      entry.models.push_back(std::move(pattern));
    }
    made.entries_.push_back(std::move(entry));
  }
  return made;
}

absl::StatusOr<std::optional<pipeline::ModelKey>> ModelKeys::For(const Uri& model) const {
  const std::string name = model.Redacted();
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return std::any_of(entry.models.begin(), entry.models.end(),
                       [&](const service::Pattern& pattern) { return pattern.Matches(name); });
  });
  if (found == entries_.end()) {
    return std::nullopt;
  }
  const v1::KeyConfig& config = found->config;
  return pipeline::ReadKey({.key_file = config.key_file(),
                            .password_file = config.password_file(),
                            .key_env = config.key_env(),
                            .password_env = config.password_env(),
                            .aes_ctr = config.cipher() == "aes-ctr",
                            .iv = config.iv(),
                            .iv_env = config.iv_env()});
}

}  // namespace weightd
