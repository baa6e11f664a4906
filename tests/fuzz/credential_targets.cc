#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "daemon/source/credentials/credential_document.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/credentials/ini_file.h"
#include "tests/fuzz/targets.h"

namespace weightd::fuzz {
namespace {

using source::Credentials;

void Check(const absl::StatusOr<Credentials>& credentials) {
  if (credentials.ok()) {
    Require(source::CheckCredentials(*credentials).ok(), "what is accepted can be signed with");
    return;
  }
  // Kind, rule and at most a name of 64 bytes: no room for a secret.
  Require(credentials.status().message().size() < 160, "errors hold nothing of the text");
}

// A file that says the same.
std::string Print(const source::IniFile& file) {
  std::string text = "# begins with no byte order mark\n";
  for (const auto& [section, settings] : file) {
    absl::StrAppend(&text, "[", section, "]\n");
    for (const auto& [name, value] : settings) {
      absl::StrAppend(&text, name, "=", value, "\n");
    }
  }
  return text;
}

}  // namespace

void CredentialText(absl::string_view input) {
  Check(source::ParseCredentialJson(input, source::DocumentStyle::kService, "k"));
  Check(source::ParseCredentialJson(input, source::DocumentStyle::kProgram, "k"));
  Check(source::ParseStsAnswer(input, "k"));
  for (const char c : source::StsErrorCode(input)) {
    Require(absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.', "a code is a name");
  }
  const source::IniFile file = source::ParseIni(input);
  Require(source::ParseIni(Print(file)) == file, "what was read reads the same");
}

}  // namespace weightd::fuzz
