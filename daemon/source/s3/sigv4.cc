#include "daemon/source/s3/sigv4.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "daemon/source/credentials.h"
#include "daemon/source/percent_encoding.h"

namespace weightd::source {
namespace {

constexpr absl::string_view kAlgorithm = "AWS4-HMAC-SHA256";
constexpr absl::string_view kWhitespace = " \t\r\n\v\f";

// OpenSSL's digests fail only for want of memory; their size then stays 0, and the server refuses
// the signature.
std::string Sha256Hex(absl::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), size));
}

std::string HmacSha256(absl::string_view key, absl::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac;
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac.data(), &size);
  return std::string(reinterpret_cast<const char*>(mac.data()), size);
}

// "20150830T123600Z"
std::string Timestamp(absl::Time time) {
  return absl::FormatTime("%E4Y%m%dT%H%M%SZ", time, absl::UTCTimeZone());
}

std::string ScopeText(const SigningScope& scope) {
  return absl::StrCat(Timestamp(scope.time).substr(0, 8), "/", scope.region, "/", scope.service,
                      "/aws4_request");
}

std::string CredentialText(const RequestToSign& request, const Credentials& credentials) {
  return absl::StrCat(credentials.access_key_id, "/", ScopeText(request.scope));
}

// As AWS's own clients do it. Not quite RFC 3986, section 5.2.4: empty segments go, too, and "/a/."
// becomes "/a".
std::string RemoveDotSegments(absl::string_view path) {
  std::vector<absl::string_view> kept;
  for (const absl::string_view segment : absl::StrSplit(path, '/')) {
    if (segment == "..") {
      kept.resize(kept.empty() ? 0 : kept.size() - 1);
    } else if (!segment.empty() && segment != ".") {
      kept.push_back(segment);
    }
  }
  const bool is_folder = !kept.empty() && absl::EndsWith(path, "/");
  return absl::StrCat("/", absl::StrJoin(kept, "/"), is_folder ? "/" : "");
}

std::string CanonicalPath(const RequestToSign& request) {
  if (request.path_form == PathForm::kAsSent) {
    return request.path;
  }
  return PathOfKey(RemoveDotSegments(request.path).substr(1));
}

// Decoded and encoded again: that is what the server makes of it.
std::string CanonicalQuery(absl::string_view query) {
  std::vector<std::pair<std::string, std::string>> parameters;
  for (const absl::string_view parameter : absl::StrSplit(query, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(parameter, absl::MaxSplits('=', 1));
    parameters.emplace_back(PercentEncode(PercentDecode(parts.first)),
                            PercentEncode(PercentDecode(parts.second)));
  }
  std::sort(parameters.begin(), parameters.end());
  return absl::StrJoin(parameters, "&", absl::PairFormatter("="));
}

// The headers by their names in lower case, each run of whitespace in a value as one space; values
// of the same name joined in their order.
std::map<std::string, std::string> CanonicalHeaders(const std::string& host,
                                                    const std::vector<Header>& headers) {
  std::map<std::string, std::string> canonical = {{"host", host}};
  for (const Header& header : headers) {
    const std::string value = absl::StrJoin(
        absl::StrSplit(header.value, absl::ByAnyChar(kWhitespace), absl::SkipEmpty()), " ");
    const auto [entry, is_new] = canonical.emplace(absl::AsciiStrToLower(header.name), value);
    if (!is_new) {
      absl::StrAppend(&entry->second, ",", value);
    }
  }
  return canonical;
}

std::string NamesOf(const std::map<std::string, std::string>& headers) {
  return absl::StrJoin(headers, ";", [](std::string* out, const auto& header) {
    absl::StrAppend(out, header.first);
  });
}

std::string SignatureOf(const RequestToSign& request, absl::string_view query,
                        const std::map<std::string, std::string>& headers,
                        absl::string_view secret) {
  const std::string canonical =
      absl::StrCat(request.method, "\n", CanonicalPath(request), "\n", CanonicalQuery(query), "\n",
                   absl::StrJoin(headers, "\n", absl::PairFormatter(":")), "\n\n", NamesOf(headers),
                   "\n", request.payload_hash);
  const SigningScope& scope = request.scope;
  const std::string time = Timestamp(scope.time);
  std::string key = absl::StrCat("AWS4", secret);
  for (const absl::string_view part :
       {absl::string_view(time).substr(0, 8), absl::string_view(scope.region),
        absl::string_view(scope.service), absl::string_view("aws4_request")}) {
    key = HmacSha256(key, part);
  }
  return absl::BytesToHexString(HmacSha256(
      key, absl::StrJoin({std::string(kAlgorithm), time, ScopeText(scope), Sha256Hex(canonical)},
                         "\n")));
}

}  // namespace

std::vector<Header> SignInHeaders(const RequestToSign& request, const Credentials& credentials) {
  std::vector<Header> added = {{"X-Amz-Date", Timestamp(request.scope.time)}};
  if (request.scope.service == "s3") {
    added.push_back({"X-Amz-Content-Sha256", request.payload_hash});
  }
  if (!credentials.session_token.empty()) {
    added.push_back({"X-Amz-Security-Token", credentials.session_token});
  }
  std::vector<Header> all = request.headers;
  all.insert(all.end(), added.begin(), added.end());
  const std::map<std::string, std::string> headers = CanonicalHeaders(request.host, all);
  const std::string signature =
      SignatureOf(request, request.query, headers, credentials.secret_access_key);
  added.push_back({"Authorization",
                   absl::StrCat(kAlgorithm, " Credential=", CredentialText(request, credentials),
                                ", SignedHeaders=", NamesOf(headers), ", Signature=", signature)});
  return added;
}

std::string SignInQuery(const RequestToSign& request, const Credentials& credentials,
                        absl::Duration valid_for) {
  const std::map<std::string, std::string> headers =
      CanonicalHeaders(request.host, request.headers);
  std::string query =
      absl::StrCat(request.query, request.query.empty() ? "" : "&", "X-Amz-Algorithm=", kAlgorithm,
                   "&X-Amz-Credential=", PercentEncode(CredentialText(request, credentials)),
                   "&X-Amz-Date=", Timestamp(request.scope.time),
                   "&X-Amz-Expires=", absl::ToInt64Seconds(valid_for),
                   "&X-Amz-SignedHeaders=", PercentEncode(NamesOf(headers)));
  if (!credentials.session_token.empty()) {
    absl::StrAppend(&query, "&X-Amz-Security-Token=", PercentEncode(credentials.session_token));
  }
  const std::string signature = SignatureOf(request, query, headers, credentials.secret_access_key);
  return absl::StrCat(query, "&X-Amz-Signature=", signature);
}

}  // namespace weightd::source
