#include "daemon/model_keys.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/secret_key.h"
#include "daemon/source/credentials/small_file.h"

namespace weightd {
namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kMostSecretBytes = 4096;

// Wipes what it takes.
format::SecretKey Take(std::string& text) {
  format::SecretKey secret(text);
  explicit_bzero(text.data(), text.size());
  text.clear();
  return secret;
}

absl::Status CantRead(absl::string_view from, absl::string_view why) {
  return Error(Reason::kKeyMissing, absl::StrCat(from, ": ", why),
               "let the daemon read what `keys` in the config names");
}

absl::StatusOr<std::string> ReadSecret(const std::string& file, const std::string& variable,
                                       std::string& from) {
  if (!file.empty()) {
    from = file;
    absl::StatusOr<source::SmallFile> read = source::ReadSmallFile(file, kMostSecretBytes);
    if (!read.ok()) {
      return CantRead("the key's file", read.status().message());
    }
    return std::move(read->text);
  }
  from = absl::StrCat("the environment variable ", variable);
  const char* const value = getenv(variable.c_str());
  if (value == nullptr) {
    return CantRead(from, "not set");
  }
  return std::string(value);
}

// 32 bytes, or as many in hexadecimal or base64 digits.
absl::StatusOr<format::SecretKey> ParseKey(std::string& text, absl::string_view from) {
  if (text.size() == kKeyBytes) {
    return Take(text);
  }
  const absl::string_view digits = absl::StripAsciiWhitespace(text);
  std::string bytes;
  if (digits.size() == 2 * kKeyBytes &&
      std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
    bytes = absl::HexStringToBytes(digits);
  } else if (!absl::Base64Unescape(digits, &bytes)) {
    bytes.clear();
  }
  explicit_bzero(text.data(), text.size());
  if (bytes.size() != kKeyBytes) {
    explicit_bzero(bytes.data(), bytes.size());
    return CantRead(from, absl::StrCat("not a key: ", kKeyBytes,
                                       " bytes, or as many in hexadecimal or base64 digits"));
  }
  return Take(bytes);
}

}  // namespace

absl::StatusOr<ModelKeys> ModelKeys::Make(
    const google::protobuf::RepeatedPtrField<v1::KeyConfig>& keys) {
  ModelKeys made;
  for (const v1::KeyConfig& key : keys) {
    Entry entry;
    entry.config = key;
    for (const std::string& model : key.models()) {
      ASSIGN_OR_RETURN(service::Pattern pattern, service::Pattern::Parse(model));
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
  pipeline::ModelKey key;
  key.password = !config.password_file().empty() || !config.password_env().empty();
  std::string from;
  if (key.password) {
    ASSIGN_OR_RETURN(std::string text,
                     ReadSecret(config.password_file(), config.password_env(), from));
    while (absl::EndsWith(text, "\n") || absl::EndsWith(text, "\r")) {
      text.pop_back();  // the editor's, not the password's
    }
    if (text.empty()) {
      return CantRead(from, "an empty password");
    }
    key.secret = Take(text);
    return key;
  }
  ASSIGN_OR_RETURN(std::string text, ReadSecret(config.key_file(), config.key_env(), from));
  ASSIGN_OR_RETURN(key.secret, ParseKey(text, from));
  return key;
}

}  // namespace weightd
