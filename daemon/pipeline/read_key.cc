#include "daemon/pipeline/read_key.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/wipe.h"
#include "daemon/format/secret_key.h"
#include "daemon/source/credentials/small_file.h"

namespace weightd::pipeline {
namespace {

using format::kKeyBytes;

// Wipes what it takes.
format::SecretKey Take(std::string& text) {
  format::SecretKey secret(text);
  Wipe(text);
  return secret;
}

absl::Status CantRead(absl::string_view from, absl::string_view why) {
  return Error(Reason::kKeyMissing, absl::StrCat(from, ": ", why),
               "put a key or a password there that this process may read");
}

absl::StatusOr<std::string> ReadSecret(const std::string& file, const std::string& variable,
                                       std::string& from) {
  if (!file.empty()) {
    from = file;
    absl::StatusOr<source::SmallFile> read = source::ReadSmallFile(file, format::kMostSecretBytes);
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
  Wipe(text);
  if (bytes.size() != kKeyBytes) {
    Wipe(bytes);
    return CantRead(from, absl::StrCat("not a key: ", kKeyBytes,
                                       " bytes, or as many in hexadecimal or base64 digits"));
  }
  return Take(bytes);
}

}  // namespace

absl::StatusOr<ModelKey> ReadKey(const KeyPlace& place) {
  ModelKey key;
  key.password = !place.password_file.empty() || !place.password_env.empty();
  std::string from;
  if (!key.password) {
    ASSIGN_OR_RETURN(std::string text, ReadSecret(place.key_file, place.key_env, from));
    ASSIGN_OR_RETURN(key.secret, ParseKey(text, from));
    return key;
  }
  ASSIGN_OR_RETURN(std::string text, ReadSecret(place.password_file, place.password_env, from));
  while (absl::EndsWith(text, "\n") || absl::EndsWith(text, "\r")) {
    text.pop_back();  // the editor's, not the password's
  }
  if (text.empty()) {
    return CantRead(from, "an empty password");
  }
  key.secret = Take(text);
  return key;
}

}  // namespace weightd::pipeline
