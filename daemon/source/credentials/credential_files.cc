#include "daemon/source/credentials/credential_files.h"

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/source/credentials/ini_file.h"

namespace weightd::source {
namespace {

using Fetched = absl::StatusOr<std::optional<FetchedCredentials>>;

Fetched Checked(FetchedCredentials fetched) {
  RETURN_IF_ERROR(CheckCredentials(fetched.credentials));
  return std::make_optional(std::move(fetched));
}

Credentials KeysOf(const IniSection& section, std::string kind) {
  Credentials credentials;
  credentials.access_key_id = ValueOf(section, "aws_access_key_id");
  credentials.secret_access_key = ValueOf(section, "aws_secret_access_key");
  credentials.session_token = ValueOf(section, "aws_session_token");
  credentials.kind = std::move(kind);
  return credentials;
}

class GivenSource final : public CredentialSource {
 public:
  explicit GivenSource(GivenCredentials given) : given_(std::move(given)) {}

  Fetched Fetch(Cancellation&) override {
    if (!given_.any()) {
      return std::nullopt;
    }
    const bool has_keys = !given_.access_key_id.empty() || !given_.secret_key_file.empty() ||
                          !given_.session_token_file.empty();
    if (has_keys && (!given_.profile_file.empty() || !given_.profile.empty())) {
      return Broken("both keys and a file of profiles are given", "give one of them");
    }
    return has_keys ? FromKeys() : FromProfile();
  }

 private:
  static absl::Status Broken(absl::string_view what, absl::string_view hint) {
    return Error(Reason::kInvalidArgument, absl::StrCat(kKind, ": ", what), hint);
  }

  Fetched FromKeys() const {
    if (given_.secret_key_file.empty()) {
      return Broken("the file of the secret key is missing", "name the file that holds it");
    }
    FetchedCredentials fetched;
    fetched.credentials.kind = std::string(kKind);
    fetched.credentials.access_key_id = given_.access_key_id;
    ASSIGN_OR_RETURN(fetched.credentials.secret_access_key,
                     ReadSecret(given_.secret_key_file, fetched));
    if (!given_.session_token_file.empty()) {
      ASSIGN_OR_RETURN(fetched.credentials.session_token,
                       ReadSecret(given_.session_token_file, fetched));
    }
    return Checked(std::move(fetched));
  }

  Fetched FromProfile() const {
    if (given_.profile_file.empty()) {
      return Broken("a profile is given, but not its file", "name the file of profiles");
    }
    const std::string profile = given_.profile.empty() ? "default" : given_.profile;
    FetchedCredentials fetched;
    ASSIGN_OR_RETURN(const TextFile file, Read(given_.profile_file));
    fetched.files.push_back(file.stamp);
    const IniFile ini = ParseIni(file.text);
    const std::string kind = absl::StrCat(kKind, " (", given_.profile_file, " [", profile, "])");
    const auto section = ini.find(profile);
    if (section == ini.end()) {
      return Error(Reason::kInvalidArgument, absl::StrCat(kind, ": there is no such profile"),
                   "name a profile that the file has");
    }
    fetched.credentials = KeysOf(section->second, kind);
    return Checked(std::move(fetched));
  }

  static absl::StatusOr<TextFile> Read(const std::string& path) {
    absl::StatusOr<TextFile> file = ReadTextFile(path);
    if (!file.ok()) {
      return Error(Reason::kSourceDenied, absl::StrCat(kKind, ": ", file.status().message()),
                   "see that the file is there, small, and readable for the daemon");
    }
    return file;
  }

  static absl::StatusOr<std::string> ReadSecret(const std::string& path,
                                                FetchedCredentials& fetched) {
    ASSIGN_OR_RETURN(const TextFile file, Read(path));
    fetched.files.push_back(file.stamp);
    return std::string(absl::StripAsciiWhitespace(file.text));
  }

  static constexpr absl::string_view kKind = "the configuration's credentials";

  const GivenCredentials given_;
};

class EnvironmentSource final : public CredentialSource {
 public:
  explicit EnvironmentSource(Environment environment) : environment_(std::move(environment)) {}

  Fetched Fetch(Cancellation&) override {
    FetchedCredentials fetched;
    fetched.credentials.kind = "the environment's AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    fetched.credentials.access_key_id = environment_.variable("AWS_ACCESS_KEY_ID");
    fetched.credentials.secret_access_key = environment_.variable("AWS_SECRET_ACCESS_KEY");
    fetched.credentials.session_token = environment_.variable("AWS_SESSION_TOKEN");
    if (fetched.credentials.access_key_id.empty() &&
        fetched.credentials.secret_access_key.empty()) {
      return std::nullopt;
    }
    return Checked(std::move(fetched));
  }

 private:
  const Environment environment_;
};

class S3cmdSource final : public CredentialSource {
 public:
  explicit S3cmdSource(const Environment& environment) : home_(environment.home) {}

  Fetched Fetch(Cancellation&) override {
    if (home_.empty()) {
      return std::nullopt;
    }
    absl::StatusOr<S3cmdFile> file = ReadS3cmdFile(absl::StrCat(home_, "/.s3cfg"));
    if (!file.ok()) {
      if (ReasonOf(file.status()) == Reason::kModelNotFound) {
        return std::nullopt;
      }
      return Error(Reason::kSourceDenied, file.status().message(),
                   "let the daemon read it, or give the store's credentials in the configuration");
    }
    FetchedCredentials fetched = {.credentials = std::move(file->settings.credentials),
                                  .files = {std::move(file->stamp)}};
    // A file that only names a host.
    if (fetched.credentials.access_key_id.empty() &&
        fetched.credentials.secret_access_key.empty()) {
      return std::nullopt;
    }
    return Checked(std::move(fetched));
  }

 private:
  const std::string home_;
};

}  // namespace

std::unique_ptr<CredentialSource> MakeGivenSource(GivenCredentials given) {
  return std::make_unique<GivenSource>(std::move(given));
}

std::unique_ptr<CredentialSource> MakeEnvironmentSource(Environment environment) {
  return std::make_unique<EnvironmentSource>(std::move(environment));
}

std::unique_ptr<CredentialSource> MakeS3cmdSource(Environment environment) {
  return std::make_unique<S3cmdSource>(environment);
}

absl::StatusOr<S3cmdFile> ReadS3cmdFile(const std::string& path) {
  ASSIGN_OR_RETURN(TextFile file, ReadTextFile(path));
  const IniFile ini = ParseIni(file.text);
  const auto section = ini.find("default");
  S3cmdFile result = {.settings = {}, .stamp = std::move(file.stamp)};
  result.settings.credentials.kind = path;
  if (section == ini.end()) {
    return result;
  }
  const auto value = [&section](absl::string_view name) {
    const std::string text = ValueOf(section->second, name);
    absl::string_view bare = text;
    // s3cmd takes a value with or without quotes.
    return std::string(absl::ConsumePrefix(&bare, "\"") && absl::ConsumeSuffix(&bare, "\"") ? bare
                                                                                            : text);
  };
  result.settings.credentials.access_key_id = value("access_key");
  result.settings.credentials.secret_access_key = value("secret_key");
  result.settings.credentials.session_token = value("access_token");
  result.settings.host_base = value("host_base");
  result.settings.host_bucket = value("host_bucket");
  const std::string https = absl::AsciiStrToLower(value("use_https"));
  // Its words for no.
  result.settings.use_https =
      !(https == "false" || https == "no" || https == "off" || https == "0");
  return result;
}

}  // namespace weightd::source
