#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_document.h"
#include "daemon/source/credentials/credential_endpoint.h"
#include "daemon/source/credentials/credential_services.h"
#include "daemon/source/http/address_policy.h"

namespace weightd::source {
namespace {

constexpr absl::string_view kRelative = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
constexpr absl::string_view kFull = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
constexpr absl::string_view kTokenFile = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
constexpr absl::string_view kToken = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
constexpr int kTries = 3;

// Where plain http is taken (AWS SDKs and Tools Reference, "Container credential provider"):
// loopback, the agent of ECS, and that of EKS.
const std::vector<Network>& PlainNetworks() {
  static const auto* const networks =
      new std::vector<Network>(*Network::ParseAll(std::vector<std::string>{
          "127.0.0.0/8", "::1/128", "169.254.170.2/32", "169.254.170.23/32", "fd00:ec2::23/128"}));
  return *networks;
}

class ContainerSource final : public CredentialSource {
 public:
  ContainerSource(Environment environment, std::string host)
      : environment_(std::move(environment)), host_(std::move(host)) {}

  absl::StatusOr<std::optional<FetchedCredentials>> Fetch(Cancellation& cancellation) override {
    const std::string relative = environment_.variable(kRelative);
    const std::string full = environment_.variable(kFull);
    if (relative.empty() && full.empty()) {
      return std::nullopt;
    }
    const absl::string_view variable = relative.empty() ? kFull : kRelative;
    const std::string kind = absl::StrCat("container credentials (", variable, ")");
    if (!relative.empty() && !absl::StartsWith(relative, "/")) {
      return Error(Reason::kInvalidArgument, absl::StrCat(kind, ": does not begin with \"/\""),
                   "correct the variable");
    }
    ASSIGN_OR_RETURN(const HttpCall call,
                     Request(kind, variable, relative.empty() ? full : host_ + relative));
    const absl::StatusOr<HttpReply> reply = CallPatiently(call, kTries, cancellation);
    if (!reply.ok()) {
      return ServiceError(kind, reply.status());
    }
    if (reply->status != 200) {
      return ServiceRefusal(kind, reply->status, "",
                            "see that a role is associated with this container");
    }
    FetchedCredentials fetched;
    ASSIGN_OR_RETURN(fetched.credentials,
                     ParseCredentialJson(reply->body, DocumentStyle::kService, kind));
    return fetched;
  }

 private:
  absl::StatusOr<HttpCall> Request(absl::string_view kind, absl::string_view variable,
                                   const std::string& url) const {
    ASSIGN_OR_RETURN(HttpCall call, CallOf("the container's agent", variable, url, environment_));
    if (IsPlainHttp(url)) {
      call.networks = PlainNetworks();
      // A proxy would hide where it leads.
      call.proxy = "";
    }
    call.headers = {"Accept: application/json"};
    ASSIGN_OR_RETURN(const std::string token, Authorization(kind));
    if (!token.empty()) {
      call.headers.push_back(absl::StrCat("Authorization: ", token));
    }
    return call;
  }

  absl::StatusOr<std::string> Authorization(absl::string_view kind) const {
    if (const std::string file = environment_.variable(kTokenFile); !file.empty()) {
      return ReadToken(kind, kTokenFile, file);
    }
    std::string token = environment_.variable(kToken);
    if (absl::StrContains(token, '\r') || absl::StrContains(token, '\n')) {
      return Error(Reason::kInvalidArgument,
                   absl::StrCat(kind, ": ", kToken, " has more than one line"),
                   "correct the variable");
    }
    return token;
  }

  const Environment environment_;
  const std::string host_;
};

}  // namespace

std::unique_ptr<CredentialSource> MakeContainerSource(Environment environment, std::string host) {
  return std::make_unique<ContainerSource>(std::move(environment), std::move(host));
}

}  // namespace weightd::source
