#include "daemon/source/http/proxy_choice.h"

#include <cstdlib>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/source/http/address_policy.h"

namespace weightd::source {
namespace {

std::string FirstSet(const std::function<std::string(const char*)>& variable,
                     std::initializer_list<const char*> names) {
  for (const char* const name : names) {
    if (std::string value = variable(name); !value.empty()) {
      return value;
    }
  }
  return "";
}

// One entry of no_proxy: "*", a network, or a domain with all below it.
bool Covers(absl::string_view entry, absl::string_view host) {
  if (entry == "*") {
    return true;
  }
  if (const std::optional<IpAddress> address = IpAddress::Parse(host); address.has_value()) {
    const absl::StatusOr<Network> network = Network::Parse(entry);
    return network.ok() && network->Contains(*address);
  }
  absl::ConsumePrefix(&entry, ".");
  return host == entry || absl::EndsWith(host, absl::StrCat(".", entry));
}

}  // namespace

ProxyChoice::ProxyChoice(const std::function<std::string(const char*)>& variable)
    : http_(FirstSet(variable, {"http_proxy", "all_proxy", "ALL_PROXY"})),
      https_(FirstSet(variable, {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"})),
      direct_(absl::StrSplit(absl::AsciiStrToLower(FirstSet(variable, {"no_proxy", "NO_PROXY"})),
                             absl::ByAnyChar(", "), absl::SkipEmpty())) {}

ProxyChoice ProxyChoice::FromEnvironment() {
  return ProxyChoice([](const char* name) {
    const char* const value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  });
}

const std::string& ProxyChoice::For(absl::string_view scheme, absl::string_view host) const {
  static const std::string* const kDirect = new std::string;
  for (const std::string& entry : direct_) {
    if (Covers(entry, host)) {
      return *kDirect;
    }
  }
  return scheme == "https" ? https_ : http_;
}

}  // namespace weightd::source
