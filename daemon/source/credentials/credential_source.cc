#include "daemon/source/credentials/credential_source.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::source {
namespace {

// Real ones are at most 128 bytes, tokens a few thousand.
constexpr size_t kLongestKey = 1 << 10;
constexpr size_t kLongestToken = 16 << 10;

bool IsOneWord(absl::string_view text, size_t longest) {
  return text.size() <= longest && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isgraph(static_cast<unsigned char>(c));
         });
}

absl::Status Unusable(const Credentials& credentials, absl::string_view what) {
  return Error(Reason::kSourceDenied, absl::StrCat(credentials.kind, ": ", what),
               "give a key id and its secret key, as the store shows them");
}

}  // namespace

Environment Environment::OfProcess() {
  Environment environment;
  environment.variable = [](absl::string_view name) {
    const char* const value = std::getenv(std::string(name).c_str());
    return std::string(value == nullptr ? "" : value);
  };
  environment.home = environment.variable("HOME");
  return environment;
}

absl::Status CheckCredentials(const Credentials& credentials) {
  if (credentials.access_key_id.empty()) {
    return Unusable(credentials, "the access key id is missing");
  }
  if (credentials.secret_access_key.empty()) {
    return Unusable(credentials, "the secret access key is missing");
  }
  if (!IsOneWord(credentials.access_key_id, kLongestKey)) {
    return Unusable(credentials, "the access key id is none");
  }
  if (!IsOneWord(credentials.secret_access_key, kLongestKey)) {
    return Unusable(credentials, "the secret access key is none");
  }
  if (!IsOneWord(credentials.session_token, kLongestToken)) {
    return Unusable(credentials, "the session token is none");
  }
  return absl::OkStatus();
}

}  // namespace weightd::source
