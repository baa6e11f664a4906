#include "daemon/source/http/http_hop.h"

#include <curl/curl.h>

#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd::source {
namespace {

using UrlHandle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

// Empty if the URL has no such part.
std::string Part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) {
    return "";
  }
  std::string result(text);
  curl_free(text);
  return result;
}

// Takes the parts, and the credentials out of the URL.
Hop Take(CURLU* url) {
  Hop hop;
  hop.scheme = absl::AsciiStrToLower(Part(url, CURLUPART_SCHEME));
  hop.host = absl::AsciiStrToLower(Part(url, CURLUPART_HOST));
  absl::string_view bare = hop.host;
  if (absl::ConsumePrefix(&bare, "[") && absl::ConsumeSuffix(&bare, "]")) {
    hop.host = std::string(bare);
  }
  hop.port = Part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  hop.user = Part(url, CURLUPART_USER, CURLU_URLDECODE);
  hop.password = Part(url, CURLUPART_PASSWORD, CURLU_URLDECODE);
  for (const CURLUPart part : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_FRAGMENT}) {
    curl_url_set(url, part, nullptr, 0);
  }
  hop.url = Part(url, CURLUPART_URL);
  return hop;
}

}  // namespace

bool SameOrigin(const Hop& a, const Hop& b) {
  return a.scheme == b.scheme && a.host == b.host && a.port == b.port;
}

absl::StatusOr<Hop> FirstHop(const Uri& uri) {
  const UrlHandle url(curl_url(), &curl_url_cleanup);
  if (curl_url_set(url.get(), CURLUPART_URL, uri.ToString().c_str(), 0) != CURLUE_OK) {
    return Error(Reason::kInvalidUri, absl::StrCat(uri.Redacted(), ": not a usable URL"),
                 "check the URL's host and port");
  }
  return Take(url.get());
}

absl::StatusOr<Hop> NextHop(const Hop& from, absl::string_view location, absl::string_view name) {
  const UrlHandle url(curl_url(), &curl_url_cleanup);
  curl_url_set(url.get(), CURLUPART_URL, from.url.c_str(), 0);
  // Resolved against the URL that the handle holds.
  const CURLUcode set = curl_url_set(url.get(), CURLUPART_URL, std::string(location).c_str(),
                                     CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE);
  Hop next = Take(url.get());
  const bool web = next.scheme == "http" || next.scheme == "https";
  const bool weaker = from.scheme == "https" && next.scheme == "http";
  if (location.empty() || set != CURLUE_OK || next.host.empty() || !web || weaker) {
    return Error(Reason::kSourceProtocol,
                 absl::StrCat(name, ": redirects to where no redirect may lead"),
                 "name the model by the URL at which its bytes lie");
  }
  const bool same = SameOrigin(from, next);
  next.user = same ? from.user : "";
  next.password = same ? from.password : "";
  return next;
}

}  // namespace weightd::source
