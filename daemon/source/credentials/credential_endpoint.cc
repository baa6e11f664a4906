#include "daemon/source/credentials/credential_endpoint.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/credentials/text_file.h"
#include "daemon/source/http/address_policy.h"
#include "daemon/source/http/proxy_choice.h"

namespace weightd::source {
namespace {

// Without port and brackets.
std::string HostOf(const Uri& uri) {
  absl::string_view host = uri.authority();
  if (absl::StartsWith(host, "[")) {
    return std::string(host.substr(1, host.find(']') - 1));
  }
  return std::string(host.substr(0, host.find(':')));
}

// What clients may not reach is what only this node or its cloud can: no proxy would reach the
// same.
bool IsLocal(absl::string_view host) {
  const std::optional<IpAddress> address = IpAddress::Parse(host);
  return host == "localhost" || (address.has_value() && !MayConnect(*address, {}));
}

}  // namespace

absl::StatusOr<HttpCall> CallOf(absl::string_view name, absl::string_view variable,
                                const std::string& url, const Environment& environment) {
  const absl::StatusOr<Uri> uri = Uri::Parse(url);
  if (!uri.ok() || (uri->scheme() != "http" && uri->scheme() != "https") ||
      !uri->user_info().empty()) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat(name, ": ", variable, " is no http or https URL"),
                 "correct the variable");
  }
  HttpCall call;
  call.name = std::string(name);
  call.url = url;
  const std::string host = HostOf(*uri);
  if (!IsLocal(host)) {
    const auto variable_of = [&environment](const char* proxy) {
      return environment.variable(proxy);
    };
    call.proxy = ProxyChoice(variable_of).For(uri->scheme(), host);
  }
  return call;
}

bool IsPlainHttp(absl::string_view url) { return absl::StartsWithIgnoreCase(url, "http://"); }

absl::Status ServiceError(absl::string_view kind, const absl::Status& status) {
  switch (ReasonOf(status)) {
    case Reason::kDeadline:
      // Not the deadline of whoever waits for a model.
      return Error(Reason::kSourceUnavailable, absl::StrCat(kind, ": ", status.message()),
                   HintOf(status));
    case Reason::kCancelled:
    case Reason::kShuttingDown:
      return status;
    default:
      return Annotate(status, kind);
  }
}

absl::Status ServiceRefusal(absl::string_view kind, int status, absl::string_view detail,
                            absl::string_view hint) {
  const bool passing = status == 429 || status >= 500;
  return Error(
      passing ? Reason::kSourceUnavailable : Reason::kSourceDenied,
      absl::StrCat(kind, ": the service answers ", status, detail.empty() ? "" : ": ", detail),
      passing ? absl::string_view("try again later") : hint);
}

absl::StatusOr<std::string> ReadToken(absl::string_view kind, absl::string_view variable,
                                      const std::string& path) {
  const absl::StatusOr<TextFile> file = ReadTextFile(path);
  if (!file.ok()) {
    return Error(Reason::kSourceDenied,
                 absl::StrCat(kind, ": ", variable, ": ", file.status().message()),
                 "see that the token is mounted and readable for the daemon");
  }
  std::string token(absl::StripAsciiWhitespace(file->text));
  if (token.empty() || !IsHeaderWord(token)) {
    return Error(Reason::kSourceDenied, absl::StrCat(kind, ": ", variable, ": holds no token"),
                 "see what is mounted there");
  }
  return token;
}

bool IsHeaderWord(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
}

}  // namespace weightd::source
