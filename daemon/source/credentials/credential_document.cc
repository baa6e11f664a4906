#include "daemon/source/credentials/credential_document.h"

#include <simdjson.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/xml_reader.h"

namespace weightd::source {
namespace {

constexpr size_t kLongestErrorCode = 64;

absl::Status Garbage(absl::string_view kind, absl::string_view what) {
  return Error(Reason::kSourceProtocol, absl::StrCat(kind, ": ", what),
               "see what answers in its place");
}

absl::Status SetExpiration(absl::string_view text, Credentials& credentials) {
  std::string ignored;
  if (!absl::ParseTime(absl::RFC3339_full, text, &credentials.expires, &ignored)) {
    return Garbage(credentials.kind, "the expiration is no time");
  }
  return absl::OkStatus();
}

// Only what can't be anything but a name is repeated to people.
std::string AsName(absl::string_view text) {
  const bool plain =
      text.size() <= kLongestErrorCode && std::all_of(text.begin(), text.end(), [](char c) {
        return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.';
      });
  return plain ? std::string(text) : std::string();
}

// False if there is such a member and it is no string.
bool TakeString(const simdjson::dom::object& object, std::string_view name, std::string& value) {
  simdjson::dom::element element;
  if (object.at_key(name).get(element) != simdjson::SUCCESS || element.is_null()) {
    return true;
  }
  std::string_view text;
  if (element.get(text) != simdjson::SUCCESS) {
    return false;
  }
  value = std::string(text);
  return true;
}

// What an answer of STS says, of whichever kind it is.
struct StsElements final : XmlElements {
  absl::Status Begin(absl::string_view) override { return absl::OkStatus(); }

  absl::Status End(absl::string_view path, absl::string_view text) override {
    if (path == "ErrorResponse/Error/Code") {
      error_code = std::string(absl::StripAsciiWhitespace(text));
    } else if (absl::ConsumePrefix(&path,
                                   "AssumeRoleWithWebIdentityResponse/"
                                   "AssumeRoleWithWebIdentityResult/Credentials/")) {
      if (std::string* const value = Member(path); value != nullptr) {
        *value = std::string(absl::StripAsciiWhitespace(text));
      }
    }
    return absl::OkStatus();
  }

  std::string* Member(absl::string_view name) {
    return name == "AccessKeyId"       ? &credentials.access_key_id
           : name == "SecretAccessKey" ? &credentials.secret_access_key
           : name == "SessionToken"    ? &credentials.session_token
           : name == "Expiration"      ? &expiration
                                       : nullptr;
  }

  Credentials credentials;
  std::string expiration;
  std::string error_code;
};

}  // namespace

absl::StatusOr<Credentials> ParseCredentialJson(absl::string_view text, DocumentStyle style,
                                                absl::string_view kind) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  const simdjson::padded_string padded(text.data(), text.size());
  if (parser.parse(padded).get(object) != simdjson::SUCCESS) {
    return Garbage(kind, "the answer is no JSON object");
  }
  const bool service = style == DocumentStyle::kService;
  Credentials credentials;
  credentials.kind = std::string(kind);
  std::string code;
  std::string expiration;
  if (!TakeString(object, "AccessKeyId", credentials.access_key_id) ||
      !TakeString(object, "SecretAccessKey", credentials.secret_access_key) ||
      !TakeString(object, service ? "Token" : "SessionToken", credentials.session_token) ||
      !TakeString(object, "Expiration", expiration) ||
      (service && !TakeString(object, "Code", code))) {
    return Garbage(kind, "the answer is not what credentials look like");
  }
  if (!code.empty() && code != "Success") {
    return Error(Reason::kSourceDenied,
                 absl::StrCat(kind, ": gives no credentials; its code is \"", AsName(code), "\""),
                 "see that the role exists and may be used here");
  }
  int64_t version = 0;
  if (!service && (object.at_key("Version").get(version) != simdjson::SUCCESS || version != 1)) {
    return Garbage(kind, "the answer has no \"Version\": 1");
  }
  if (!expiration.empty()) {
    RETURN_IF_ERROR(SetExpiration(expiration, credentials));
  }
  RETURN_IF_ERROR(CheckCredentials(credentials));
  return credentials;
}

absl::StatusOr<Credentials> ParseStsAnswer(absl::string_view xml, absl::string_view kind) {
  StsElements answer;
  if (absl::Status read = ReadXml(xml, answer); !read.ok()) {
    return Garbage(kind, "the answer is no XML of STS");
  }
  answer.credentials.kind = std::string(kind);
  RETURN_IF_ERROR(SetExpiration(answer.expiration, answer.credentials));
  RETURN_IF_ERROR(CheckCredentials(answer.credentials));
  return std::move(answer.credentials);
}

std::string StsErrorCode(absl::string_view xml) {
  StsElements answer;
  return ReadXml(xml, answer).ok() ? AsName(answer.error_code) : "";
}

}  // namespace weightd::source
