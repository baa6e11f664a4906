#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_document.h"
#include "daemon/source/credentials/credential_endpoint.h"
#include "daemon/source/credentials/credential_services.h"

namespace weightd::source {
namespace {

constexpr absl::string_view kKind = "EC2 instance role";
constexpr absl::string_view kName = "the instance metadata service";
constexpr absl::string_view kEndpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
constexpr absl::string_view kRoles = "/latest/meta-data/iam/security-credentials/";
// It answers from the hypervisor, within milliseconds.
constexpr absl::Duration kPatience = absl::Seconds(1);
constexpr int kTries = 2;
constexpr absl::string_view kNotEc2 =
    "if no role is meant to be used here, set AWS_EC2_METADATA_DISABLED=true";

// The name goes into a path.
bool IsRoleName(absl::string_view name) {
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && !absl::StrContains("+=,.@-_", c)) {
      return false;
    }
  }
  return !name.empty() && name.size() <= 128;
}

class MetadataSource final : public CredentialSource {
 public:
  explicit MetadataSource(Environment environment) : environment_(std::move(environment)) {}

  absl::StatusOr<std::optional<FetchedCredentials>> Fetch(Cancellation& cancellation) override {
    if (absl::EqualsIgnoreCase(environment_.variable("AWS_EC2_METADATA_DISABLED"), "true")) {
      return std::nullopt;
    }
    ASSIGN_OR_RETURN(const std::optional<std::string> token, Token(cancellation));
    if (!token.has_value()) {
      return std::nullopt;
    }
    ASSIGN_OR_RETURN(const HttpReply roles, Get("", *token, cancellation));
    if (roles.status == 404) {
      return std::nullopt;
    }
    const absl::string_view role =
        absl::StripAsciiWhitespace(absl::string_view(roles.body).substr(0, roles.body.find('\n')));
    if (roles.status == 200 && role.empty()) {
      return std::nullopt;
    }
    if (roles.status != 200) {
      return ServiceRefusal(kKind, roles.status, "", kNotEc2);
    }
    if (!IsRoleName(role)) {
      return Error(Reason::kSourceProtocol, absl::StrCat(kKind, ": the answer is no role's name"),
                   kNotEc2);
    }
    ASSIGN_OR_RETURN(const HttpReply reply, Get(role, *token, cancellation));
    if (reply.status != 200) {
      return ServiceRefusal(kKind, reply.status, "", "see that the instance's role exists");
    }
    FetchedCredentials fetched;
    ASSIGN_OR_RETURN(fetched.credentials,
                     ParseCredentialJson(reply.body, DocumentStyle::kService, kKind));
    return fetched;
  }

 private:
  // Of a session with the service (Amazon EC2 User Guide, "Use the Instance Metadata Service").
  // Nothing if there is no service that may be asked.
  absl::StatusOr<std::optional<std::string>> Token(Cancellation& cancellation) const {
    ASSIGN_OR_RETURN(HttpCall call, Request("/latest/api/token"));
    call.method = "PUT";
    call.headers = {"X-aws-ec2-metadata-token-ttl-seconds: 300"};
    const absl::StatusOr<HttpReply> reply = CallPatiently(call, kTries, cancellation);
    const Reason reason = reply.ok() ? Reason::kUnspecified : ReasonOf(reply.status());
    if (reason == Reason::kSourceUnavailable && environment_.variable(kEndpoint).empty()) {
      return std::nullopt;
    }
    if (reason == Reason::kDeadline) {
      return Error(Reason::kSourceUnavailable,
                   absl::StrCat(kKind, ": ", kName, " doesn't answer a request for a token"),
                   absl::StrCat("in a container, raise the instance's HttpPutResponseHopLimit to "
                                "2; ",
                                kNotEc2));
    }
    if (!reply.ok()) {
      return ServiceError(kKind, reply.status());
    }
    // Switched off (HttpEndpoint: disabled).
    if (reply->status == 403) {
      return std::nullopt;
    }
    const absl::string_view token = absl::StripAsciiWhitespace(reply->body);
    if (reply->status != 200 || token.empty() || !IsHeaderWord(token)) {
      return Error(Reason::kSourceDenied,
                   absl::StrCat(kKind, ": ", kName, " gives no token (version 2); it answers ",
                                reply->status),
                   absl::StrCat("let the instance take version 2 of its metadata; ", kNotEc2));
    }
    return std::string(token);
  }

  absl::StatusOr<HttpReply> Get(absl::string_view role, const std::string& token,
                                Cancellation& cancellation) const {
    ASSIGN_OR_RETURN(HttpCall call, Request(absl::StrCat(kRoles, role)));
    call.headers = {absl::StrCat("X-aws-ec2-metadata-token: ", token)};
    absl::StatusOr<HttpReply> reply = CallPatiently(call, kTries, cancellation);
    return reply.ok() ? std::move(reply) : ServiceError(kKind, reply.status());
  }

  absl::StatusOr<HttpCall> Request(absl::string_view path) const {
    std::string base = environment_.variable(kEndpoint);
    if (base.empty()) {
      const std::string mode = environment_.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
      base = absl::EqualsIgnoreCase(mode, "IPv6") ? "http://[fd00:ec2::254]"
                                                  : "http://169.254.169.254";
    }
    ASSIGN_OR_RETURN(
        HttpCall call,
        CallOf(kName, kEndpoint, absl::StrCat(absl::StripSuffix(base, "/"), path), environment_));
    call.proxy = "";
    call.connect_timeout = kPatience;
    call.timeout = kPatience;
    return call;
  }

  const Environment environment_;
};

}  // namespace

std::unique_ptr<CredentialSource> MakeMetadataSource(Environment environment) {
  return std::make_unique<MetadataSource>(std::move(environment));
}

}  // namespace weightd::source
