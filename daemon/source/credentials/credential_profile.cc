#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_files.h"
#include "daemon/source/credentials/credential_process.h"
#include "daemon/source/credentials/ini_file.h"

namespace weightd::source {
namespace {

// Settings that name an identity in a way that we don't speak (AWS SDKs and Tools Reference,
// "Settings reference").
constexpr absl::string_view kOtherWays[] = {
    "role_arn",    "web_identity_token_file", "source_profile", "credential_source",
    "sso_session", "sso_account_id",          "sso_start_url",  "login_session",
};

bool IsOfKeys(absl::string_view name) {
  return name == "aws_access_key_id" || name == "aws_secret_access_key" ||
         name == "aws_session_token";
}

bool HasKeys(const IniSection& section) {
  return std::any_of(section.begin(), section.end(),
                     [](const auto& setting) { return IsOfKeys(setting.first); });
}

class ProfileSource final : public CredentialSource {
 public:
  ProfileSource(Environment environment, bool allow_process)
      : environment_(std::move(environment)), allow_process_(allow_process) {}

  absl::StatusOr<std::optional<FetchedCredentials>> Fetch(Cancellation& cancellation) override {
    const std::string named = environment_.variable("AWS_PROFILE");
    const std::string profile = named.empty() ? "default" : named;
    FetchedCredentials fetched;
    ASSIGN_OR_RETURN(const std::optional<IniFile> credentials,
                     Read("AWS_SHARED_CREDENTIALS_FILE", "/.aws/credentials", fetched));
    ASSIGN_OR_RETURN(const std::optional<IniFile> config,
                     Read("AWS_CONFIG_FILE", "/.aws/config", fetched));
    const IniSection* const secrets = Find(credentials, profile);
    const IniSection* settings = Find(config, absl::StrCat("profile ", profile));
    if (settings == nullptr && profile == "default") {
      settings = Find(config, profile);
    }
    if (secrets == nullptr && settings == nullptr) {
      if (named.empty()) {
        return std::nullopt;
      }
      return Error(Reason::kInvalidArgument,
                   absl::StrCat("AWS_PROFILE names the profile \"", named,
                                "\", which AWS' credentials and config files don't have"),
                   "add the profile, or correct the variable");
    }
    // What both files set, the file of credentials says; keys are of one file, never mixed.
    IniSection merged = secrets == nullptr ? IniSection() : *secrets;
    if (settings != nullptr) {
      const bool has_keys = HasKeys(merged);
      for (const auto& [name, value] : *settings) {
        if (!has_keys || !IsOfKeys(name)) {
          merged.emplace(name, value);
        }
      }
    }
    return FromSection(merged, absl::StrCat("AWS profile \"", profile, "\""), std::move(fetched),
                       cancellation);
  }

 private:
  absl::StatusOr<std::optional<FetchedCredentials>> FromSection(const IniSection& section,
                                                                std::string kind,
                                                                FetchedCredentials fetched,
                                                                Cancellation& cancellation) const {
    for (const absl::string_view way : kOtherWays) {
      if (section.count(std::string(way)) != 0) {
        return Error(Reason::kUnsupported,
                     absl::StrCat(kind, ": ", way, " is not supported in profiles"),
                     "give keys in the profile, or a credential_process, or set AWS_PROFILE to "
                     "another one");
      }
    }
    fetched.credentials.access_key_id = ValueOf(section, "aws_access_key_id");
    fetched.credentials.secret_access_key = ValueOf(section, "aws_secret_access_key");
    fetched.credentials.session_token = ValueOf(section, "aws_session_token");
    if (!fetched.credentials.access_key_id.empty() ||
        !fetched.credentials.secret_access_key.empty()) {
      fetched.credentials.kind = std::move(kind);
      RETURN_IF_ERROR(CheckCredentials(fetched.credentials));
      return fetched;
    }
    const std::string command = ValueOf(section, "credential_process");
    if (command.empty()) {
      return std::nullopt;
    }
    if (!allow_process_) {
      return Error(Reason::kNotAllowed,
                   absl::StrCat(kind, ": has a credential_process, and running one is not allowed"),
                   "allow it in the store's configuration, or give keys in the profile");
    }
    ASSIGN_OR_RETURN(
        fetched.credentials,
        RunCredentialProcess(command, absl::StrCat(kind, "'s credential_process"), cancellation));
    return fetched;
  }

  // Nothing if there is no such file and no variable asks for it.
  absl::StatusOr<std::optional<IniFile>> Read(absl::string_view variable,
                                              absl::string_view below_home,
                                              FetchedCredentials& fetched) const {
    const std::string named = environment_.variable(variable);
    if (named.empty() && environment_.home.empty()) {
      return std::nullopt;
    }
    const std::string path =
        named.empty() ? absl::StrCat(environment_.home, below_home) : AtHome(named);
    absl::StatusOr<TextFile> file = ReadTextFile(path);
    if (file.ok()) {
      fetched.files.push_back(std::move(file->stamp));
      return ParseIni(file->text);
    }
    if (named.empty() && ReasonOf(file.status()) == Reason::kModelNotFound) {
      fetched.files.push_back(FileStamp::Missing(path));
      return std::nullopt;
    }
    return Error(Reason::kSourceDenied,
                 absl::StrCat(named.empty() ? "AWS' file of profiles" : variable, ": ",
                              file.status().message()),
                 "let the daemon read the file, or give the store's credentials in the "
                 "configuration");
  }

  std::string AtHome(absl::string_view path) const {
    return absl::ConsumePrefix(&path, "~/") ? absl::StrCat(environment_.home, "/", path)
                                            : std::string(path);
  }

  static const IniSection* Find(const std::optional<IniFile>& file, const std::string& name) {
    if (!file.has_value()) {
      return nullptr;
    }
    const auto found = file->find(name);
    return found == file->end() ? nullptr : &found->second;
  }

  const Environment environment_;
  const bool allow_process_;
};

}  // namespace

std::unique_ptr<CredentialSource> MakeProfileSource(Environment environment, bool allow_process) {
  return std::make_unique<ProfileSource>(std::move(environment), allow_process);
}

}  // namespace weightd::source
