#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_PROXY_CHOICE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_PROXY_CHOICE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weightd::source {

// Which proxy a request goes through, as the environment says: http_proxy, https_proxy, all_proxy
// and no_proxy, also in upper case, except HTTP_PROXY, which a CGI client could set. Decided by us
// and not by libcurl, because it decides what the address checks mean: a request through a proxy
// connects to the proxy, which the operator chose and which may well be on loopback, and it is the
// proxy that resolves the server's name. So the proxy's address is not checked; of the server only
// a literal address and the name localhost can be. An operator whose proxy reaches more than
// clients may has to limit the proxy.
class ProxyChoice {
 public:
  // `variable` gives the value of an environment variable, empty if it is not set.
  explicit ProxyChoice(const std::function<std::string(const char* name)>& variable);
  static ProxyChoice FromEnvironment();

  // The proxy's URL (it may hold credentials), empty for a direct connection. `host` is without
  // brackets.
  const std::string& For(absl::string_view scheme, absl::string_view host) const;

 private:
  std::string http_;
  std::string https_;
  std::vector<std::string> direct_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_PROXY_CHOICE_H_
