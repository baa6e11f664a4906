#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_document.h"
#include "daemon/source/credentials/credential_endpoint.h"
#include "daemon/source/credentials/credential_services.h"
#include "daemon/source/percent_encoding.h"

namespace weightd::source {
namespace {

constexpr absl::string_view kKind = "web identity (AWS_WEB_IDENTITY_TOKEN_FILE)";
constexpr absl::string_view kTokenFile = "AWS_WEB_IDENTITY_TOKEN_FILE";
constexpr int kTries = 3;

// AWS: "AWS Security Token Service endpoints and quotas".
std::string StsOf(absl::string_view region) {
  if (region.empty()) {
    return "https://sts.amazonaws.com/";
  }
  return absl::StrCat("https://sts.", region, ".amazonaws.com",
                      absl::StartsWith(region, "cn-") ? ".cn" : "", "/");
}

class WebIdentitySource final : public CredentialSource {
 public:
  WebIdentitySource(Environment environment, std::string region)
      : environment_(std::move(environment)), region_(std::move(region)) {}

  absl::StatusOr<std::optional<FetchedCredentials>> Fetch(Cancellation& cancellation) override {
    const std::string token_file = environment_.variable(kTokenFile);
    if (token_file.empty()) {
      return std::nullopt;
    }
    ASSIGN_OR_RETURN(const HttpCall call, Request(token_file));
    const absl::StatusOr<HttpReply> reply = CallPatiently(call, kTries, cancellation);
    if (!reply.ok()) {
      return ServiceError(kKind, reply.status());
    }
    if (reply->status != 200) {
      return ServiceRefusal(kKind, reply->status, StsErrorCode(reply->body),
                            "check the token and the role's trust policy");
    }
    FetchedCredentials fetched;
    ASSIGN_OR_RETURN(fetched.credentials, ParseStsAnswer(reply->body, kKind));
    return fetched;
  }

 private:
  absl::StatusOr<HttpCall> Request(const std::string& token_file) const {
    const std::string role = environment_.variable("AWS_ROLE_ARN");
    if (role.empty()) {
      return Error(Reason::kInvalidArgument, absl::StrCat(kKind, ": AWS_ROLE_ARN is not set"),
                   "set it to the role that the token is for");
    }
    const std::string session = environment_.variable("AWS_ROLE_SESSION_NAME");
    ASSIGN_OR_RETURN(const std::string token, ReadToken(kKind, kTokenFile, token_file));
    const std::string other = environment_.variable("AWS_ENDPOINT_URL_STS");
    ASSIGN_OR_RETURN(HttpCall call, CallOf("STS", "AWS_ENDPOINT_URL_STS",
                                           other.empty() ? StsOf(Region()) : other, environment_));
    call.method = "POST";
    call.headers = {"Accept: application/xml"};
    // Unsigned: the token is what proves (AWS STS API Reference, AssumeRoleWithWebIdentity).
    call.body = absl::StrCat(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=", PercentEncode(role),
        "&RoleSessionName=", PercentEncode(session.empty() ? "weightd" : session),
        "&WebIdentityToken=", PercentEncode(token));
    return call;
  }

  std::string Region() const {
    for (std::string region : {region_, environment_.variable("AWS_REGION"),
                               environment_.variable("AWS_DEFAULT_REGION")}) {
      if (!region.empty()) {
        return region;
      }
    }
    return "";
  }

  const Environment environment_;
  const std::string region_;
};

}  // namespace

std::unique_ptr<CredentialSource> MakeWebIdentitySource(Environment environment,
                                                        std::string region) {
  return std::make_unique<WebIdentitySource>(std::move(environment), std::move(region));
}

}  // namespace weightd::source
