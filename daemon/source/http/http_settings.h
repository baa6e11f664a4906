#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SETTINGS_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SETTINGS_H_

#include <memory>
#include <vector>

#include "daemon/source/http/address_policy.h"
#include "daemon/source/http/http_dialect.h"
#include "daemon/source/http/http_options.h"
#include "daemon/source/http/proxy_choice.h"

namespace weightd::source {

// What all transfers of an HTTP source share.
struct HttpSettings {
  HttpSourceOptions options;
  std::vector<Network> allowed;
  ProxyChoice proxies;
  std::shared_ptr<HttpDialect> dialect;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SETTINGS_H_
