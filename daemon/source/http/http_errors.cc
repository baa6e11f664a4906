#include "daemon/source/http/http_errors.h"

#include "absl/strings/str_cat.h"
#include "common/printable_text.h"
#include "common/status.h"

namespace weightd::source {
namespace {

constexpr absl::string_view kLaterHint =
    "see whether the server is up and reachable from this node, then try again";

HttpFailure Final(Reason reason, absl::string_view name, absl::string_view what,
                  absl::string_view hint) {
  return {.status = Error(reason, absl::StrCat(name, ": ", what), hint)};
}

HttpFailure Passing(absl::string_view name, absl::string_view what, RetryReason retry) {
  return {.status = Error(Reason::kSourceUnavailable, absl::StrCat(name, ": ", what), kLaterHint),
          .passing = true,
          .retry = retry};
}

HttpFailure Busy(int status, absl::Duration retry_after, absl::string_view name,
                 absl::string_view what) {
  HttpFailure failure = Passing(
      name, what, MeansThrottled(status) ? RetryReason::kThrottled : RetryReason::kServerError);
  failure.wait = retry_after;
  return failure;
}

}  // namespace

HttpFailure FailureOfStatus(int status, absl::Duration retry_after, absl::string_view name) {
  const std::string what = absl::StrCat("the server answers ", status);
  switch (status) {
    case 401:
    case 403:
    case 407:
      return Final(Reason::kSourceDenied, name, what,
                   "give the credentials that the server wants, or let it serve the object");
    case 404:
    case 410:
      return Final(Reason::kModelNotFound, name, what, "check the model's URI");
    case 412:
    case 416:
      return Final(Reason::kSourceChanged, name, "the object changed since it was found",
                   "try again when nobody writes to it");
    case 408:
    case 425:
    case 429:
      return Busy(status, retry_after, name, what);
    case 501:
    case 505:
      break;
    default:
      if (status >= 500 && status < 600) {
        return Busy(status, retry_after, name, what);
      }
  }
  return Final(Reason::kSourceProtocol, name, what, "check the model's URI and the server");
}

HttpFailure FailureOfCurl(CURLcode code, absl::string_view tls_detail, absl::string_view name) {
  const absl::string_view text = curl_easy_strerror(code);
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
      return Final(Reason::kSourceUnavailable, name,
                   absl::StrCat("the server's certificate is not trusted",
                                tls_detail.empty() ? "" : ": ", PrintableText(tls_detail)),
                   "add the server's authority to ca_file, or repair its certificate");
    case CURLE_SSL_CACERT_BADFILE:
      return Final(Reason::kSourceUnavailable, name,
                   "the file of trusted authorities can't be read", "check ca_file");
    case CURLE_URL_MALFORMAT:
      return Final(Reason::kInvalidUri, name, text, "check the model's URI");
    case CURLE_OUT_OF_MEMORY:
      // Also libcurl's word for a header that is longer than it takes.
      return Final(Reason::kSourceProtocol, name,
                   "the server's headers are too long, or this node is out of memory",
                   "look at the server, or free memory on this node");
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_RANGE_ERROR:
      return Final(Reason::kSourceProtocol, name, text,
                   "look at the server, or at a proxy on the way to it");
    case CURLE_OPERATION_TIMEDOUT:
      return Passing(name, "the server stalls: too few bytes came in time", RetryReason::kStalled);
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
      return Passing(name, text, RetryReason::kCutShort);
    default:
      // Names that don't resolve, connections that are refused, reset or cut short.
      return Passing(name, text, RetryReason::kConnection);
  }
}

HttpFailure ShortBody(absl::string_view name) {
  return Passing(name, "the server sent less than it announced", RetryReason::kCutShort);
}

absl::Status HeadTooLong(absl::string_view name) {
  return Error(Reason::kSourceProtocol, absl::StrCat(name, ": the server's headers are too long"),
               "look at the server, or at a proxy on the way to it");
}

absl::Status TooManyRedirects(absl::string_view name) {
  return Error(Reason::kSourceProtocol, absl::StrCat(name, ": too many redirects"),
               "name the model by the URL at which its bytes lie");
}

absl::Status AddressRefused(absl::string_view name) {
  return Error(Reason::kAddressRefused,
               absl::StrCat(name, ": leads to an address that may not be read from"),
               "an operator can add its network to sources.http.allowed_networks");
}

}  // namespace weightd::source
