#include "daemon/source/http/http_curl_options.h"

#include <algorithm>

#include "absl/time/time.h"

namespace weightd::source {
namespace {

// libcurl's default of 16 KiB costs a third of the speed; but all connections together shall not
// take much memory.
constexpr long kReceiveBytes = 512 << 10;
constexpr long kReceiveBytesTogether = 16 << 20;
constexpr absl::Duration kLongestConnect = absl::Seconds(10);

}  // namespace

void SetConnectionOptions(CURL* handle, const HttpSourceOptions& options) {
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  // Parallel ranges want connections of their own, not streams of one.
  curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  // A name that is still being resolved is not waited for when the transfer is dropped.
  curl_easy_setopt(handle, CURLOPT_QUICK_EXIT, 1L);
  // Else libcurl would read no_proxy by rules of its own, and connect where nobody checks.
  curl_easy_setopt(handle, CURLOPT_NOPROXY, "");
  const absl::Duration connect = std::min(options.stall_timeout, kLongestConnect);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(absl::ToInt64Milliseconds(connect)));
}

void SetRequestOptions(CURL* handle, const HttpSourceOptions& options, const Hop& hop,
                       const std::string& proxy) {
  curl_easy_setopt(handle, CURLOPT_URL, hop.url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROXY, proxy.c_str());
  curl_easy_setopt(handle, CURLOPT_BUFFERSIZE,
                   std::min(kReceiveBytes, kReceiveBytesTogether / options.connections));
  curl_easy_setopt(handle, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(handle, CURLOPT_USERAGENT, kUserAgent.data());
  if (!options.ca_file.empty()) {
    curl_easy_setopt(handle, CURLOPT_CAINFO, options.ca_file.c_str());
  }
  if (!hop.user.empty() || !hop.password.empty()) {
    curl_easy_setopt(handle, CURLOPT_USERNAME, hop.user.c_str());
    curl_easy_setopt(handle, CURLOPT_PASSWORD, hop.password.c_str());
  }
}

}  // namespace weightd::source
