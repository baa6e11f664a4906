#include "daemon/pipeline/read_key.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/wipe.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/secret_key.h"
#include "daemon/source/credentials/text_file.h"

namespace weightd::pipeline {
namespace {

using format::kKeyBytes;
constexpr size_t kShortCtrKeyBytes = 16;

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
    absl::StatusOr<source::TextFile> read = source::ReadTextFile(file, format::kMostSecretBytes);
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

bool IsKeySize(size_t bytes, bool aes_ctr) {
  return bytes == kKeyBytes || (aes_ctr && bytes == kShortCtrKeyBytes);
}

// A key's bytes, or as many in hexadecimal or base64 digits. Of 32 bytes that are all hexadecimal
// digits, a key of 16.
absl::StatusOr<format::SecretKey> ParseKey(std::string& text, absl::string_view from,
                                           bool aes_ctr) {
  const absl::string_view digits = absl::StripAsciiWhitespace(text);
  std::string bytes;
  if (digits.size() % 2 == 0 && IsKeySize(digits.size() / 2, aes_ctr) &&
      std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
    bytes = absl::HexStringToBytes(digits);
  } else if (IsKeySize(text.size(), aes_ctr)) {
    return Take(text);
  } else if (!absl::Base64Unescape(digits, &bytes)) {
    bytes.clear();
  }
  Wipe(text);
  if (!IsKeySize(bytes.size(), aes_ctr)) {
    Wipe(bytes);
    return CantRead(from, absl::StrCat("not a key: ", aes_ctr ? "16 or " : "", kKeyBytes,
                                       " bytes, or as many in hexadecimal or base64 digits"));
  }
  return Take(bytes);
}

// The variable that veTurboIO reads; its README spells the name in another way.
std::string VeturboioVariable(absl::string_view what) {
  std::string name = absl::StrCat("VETURBOIO_", what);
  std::string misspelt = absl::StrCat("VETUROIO_", what);
  return getenv(name.c_str()) == nullptr && getenv(misspelt.c_str()) != nullptr ? misspelt : name;
}

bool NamesKey(const KeyPlace& place) { return !place.key_file.empty() || !place.key_env.empty(); }

// Empty if there is none.
absl::StatusOr<std::string> ReadIv(const KeyPlace& place) {
  std::string from = "the IV";
  std::string text = place.iv;
  const bool from_veturboio = text.empty() && place.iv_env.empty() && !NamesKey(place);
  const std::string variable = from_veturboio ? VeturboioVariable("IV") : place.iv_env;
  if (text.empty() && !variable.empty()) {
    from = absl::StrCat("the environment variable ", variable);
    const char* const value = getenv(variable.c_str());
    if (value == nullptr && !from_veturboio) {
      return Error(Reason::kKeyMissing, absl::StrCat(from, ": not set"), "set it to the files' IV");
    }
    text = value == nullptr ? "" : value;
  }
  if (text.empty()) {
    return text;
  }
  std::optional<std::string> iv = format::ParseIv(text);
  if (!iv.has_value()) {
    return Error(Reason::kKeyMissing, absl::StrCat(from, ": not 16 bytes"),
                 "write it in hexadecimal or base64 digits");
  }
  return *std::move(iv);
}

}  // namespace

absl::StatusOr<ModelKey> ReadKey(const KeyPlace& place) {
  ModelKey key;
  key.password = !place.password_file.empty() || !place.password_env.empty();
  std::string from;
  if (!key.password) {
    std::string variable = place.key_env;
    if (place.aes_ctr) {
      ASSIGN_OR_RETURN(key.ctr_iv, ReadIv(place));
      if (!NamesKey(place)) {
        variable = VeturboioVariable("KEY");
      }
    }
    ASSIGN_OR_RETURN(std::string text, ReadSecret(place.key_file, variable, from));
    ASSIGN_OR_RETURN(key.secret, ParseKey(text, from, place.aes_ctr));
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
