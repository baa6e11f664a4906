#include "client/cli/key_option.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/pipeline/read_key.h"

namespace weightd::cli {
namespace {

// Whoever gave the secret itself must not find it in a log: what was given is never shown.
absl::Status Misused(absl::string_view option, absl::string_view what, absl::string_view hint) {
  return Error(Reason::kInvalidArgument, absl::StrCat(option, ": ", what), hint);
}

}  // namespace

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
    return Misused(option, "doesn't say where the secret is", absl::StrCat("say ", kKeyForms));
  }
  return pipeline::ReadKey(place);
}

absl::StatusOr<std::optional<pipeline::ModelKey>> ReadInputKey(const std::string& key,
                                                               const std::string& iv) {
  absl::string_view given = key;
  if (!absl::ConsumePrefix(&given, "aes-ctr-")) {
    if (!iv.empty()) {
      return Misused("--iv", "only AES-CTR has one, and --key names no key of it",
                     absl::StrCat("say --key ", kCtrKeyForms, ", or leave --iv out"));
    }
    return ReadKeyOption("--key", key);
  }
  pipeline::KeyPlace place;
  place.aes_ctr = true;
  place.iv = iv;
  if (absl::ConsumePrefix(&given, "key-file=")) {
    place.key_file = std::string(given);
  } else if (absl::ConsumePrefix(&given, "key-env=")) {
    place.key_env = std::string(given);
  }
  if (place.key_file.empty() && place.key_env.empty()) {
    return Misused("--key", "doesn't say where the key is", absl::StrCat("say ", kCtrKeyForms));
  }
  return pipeline::ReadKey(place);
}

}  // namespace weightd::cli
