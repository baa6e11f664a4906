#include "client/cli/key_option.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status.h"
#include "daemon/pipeline/read_key.h"

namespace weightd::cli {

absl::StatusOr<std::optional<pipeline::ModelKey>> ReadKeyOption(absl::string_view option,
                                                                const std::string& given) {
  if (given.empty()) {
    return std::nullopt;
  }
  const std::pair<std::string, std::string> parts = absl::StrSplit(given, absl::MaxSplits('=', 1));
  const auto& [kind, value] = parts;
  pipeline::KeyPlace place;
  if (kind == "key-file") {
    place.key_file = value;
  } else if (kind == "password-file") {
    place.password_file = value;
  } else if (kind == "key-env") {
    place.key_env = value;
  } else if (kind == "password-env") {
    place.password_env = value;
  }
  if (value.empty() || place == pipeline::KeyPlace()) {
    // Whoever gave the secret itself must not find it in a log.
    return Error(Reason::kInvalidArgument,
                 absl::StrCat(option, ": doesn't say where the secret is"),
                 absl::StrCat("say ", kKeyForms));
  }
  return pipeline::ReadKey(place);
}

}  // namespace weightd::cli
