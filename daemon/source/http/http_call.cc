#include "daemon/source/http/http_call.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status.h"

namespace weightd::source {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(100);
constexpr int kMostPollMilliseconds = 1000;

constexpr absl::string_view kHint = "see whether it is up and reachable from this node";

using MultiHandle = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;
using EasyHandle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;

class Caller {
 public:
  explicit Caller(const HttpCall& call)
      : call_(call),
        multi_(curl_multi_init(), &curl_multi_cleanup),
        easy_(curl_easy_init(), &curl_easy_cleanup) {}
  ~Caller() { curl_slist_free_all(headers_); }
  Caller(const Caller&) = delete;

  absl::StatusOr<HttpReply> Run(Cancellation& cancellation) {
    Prepare();
    const Cancellation::Registration registration =
        cancellation.OnCancel([multi = multi_.get()] { curl_multi_wakeup(multi); });
    curl_multi_add_handle(multi_.get(), easy_.get());
    std::optional<CURLcode> end;
    while (!end.has_value() && !cancellation.cancelled()) {
      int running = 0;
      curl_multi_perform(multi_.get(), &running);
      end = TakeEnd();
      if (!end.has_value()) {
        curl_multi_poll(multi_.get(), nullptr, 0, kMostPollMilliseconds, nullptr);
      }
    }
    absl::StatusOr<HttpReply> result = end.has_value() ? Finish(*end) : cancellation.status();
    curl_multi_remove_handle(multi_.get(), easy_.get());
    return result;
  }

 private:
  template <typename Value>
  void Set(CURLoption option, Value value) {
    curl_easy_setopt(easy_.get(), option, value);
  }

  void Prepare() {
    Set(CURLOPT_URL, call_.url.c_str());
    Set(CURLOPT_PROTOCOLS_STR, "http,https");
    Set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    Set(CURLOPT_NOSIGNAL, 1L);
    // A name that is still being resolved is not waited for when the call is dropped.
    Set(CURLOPT_QUICK_EXIT, 1L);
    Set(CURLOPT_USERAGENT, "weightd");
    Set(CURLOPT_PROXY, call_.proxy.c_str());
    // Else libcurl would read no_proxy by rules of its own.
    Set(CURLOPT_NOPROXY, "");
    Set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    Set(CURLOPT_CONNECTTIMEOUT_MS,
        static_cast<long>(absl::ToInt64Milliseconds(call_.connect_timeout)));
    Set(CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(call_.timeout)));
    Set(CURLOPT_CUSTOMREQUEST, call_.method.c_str());
    if (call_.method != "GET") {
      Set(CURLOPT_POSTFIELDSIZE, static_cast<long>(call_.body.size()));
      Set(CURLOPT_POSTFIELDS, call_.body.c_str());
      // A PUT of nothing has no type, and libcurl would name one.
      AddHeader(call_.body.empty() ? "Content-Type:"
                                   : "Content-Type: application/x-www-form-urlencoded");
      AddHeader("Expect:");
    }
    for (const std::string& header : call_.headers) {
      AddHeader(header.c_str());
    }
    Set(CURLOPT_HTTPHEADER, headers_);
    Set(CURLOPT_WRITEFUNCTION, &Caller::OnBody);
    Set(CURLOPT_WRITEDATA, this);
    Set(CURLOPT_OPENSOCKETFUNCTION, &Caller::OpenSocket);
    Set(CURLOPT_OPENSOCKETDATA, this);
  }

  void AddHeader(const char* header) { headers_ = curl_slist_append(headers_, header); }

  std::optional<CURLcode> TakeEnd() {
    int left = 0;
    const CURLMsg* const message = curl_multi_info_read(multi_.get(), &left);
    return message == nullptr ? std::nullopt : std::make_optional(message->data.result);
  }

  absl::StatusOr<HttpReply> Finish(CURLcode code) {
    if (too_long_) {
      return Error(Reason::kSourceProtocol,
                   absl::StrCat(call_.name, " answers with more than ", call_.most_bytes, " bytes"),
                   "see what answers at its address");
    }
    if (refused_ && !opened_) {
      return Error(Reason::kAddressRefused,
                   absl::StrCat(call_.name, " has an address that may not be asked"),
                   "name it by https, or by an address that is local to this node");
    }
    if (code != CURLE_OK) {
      return FailureOf(code);
    }
    long status = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
    reply_.status = static_cast<int>(status);
    return std::move(reply_);
  }

  absl::Status FailureOf(CURLcode code) {
    const std::string what = absl::StrCat(call_.name, ": ", curl_easy_strerror(code));
    curl_off_t connected = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_CONNECT_TIME_T, &connected);
    switch (code) {
      case CURLE_URL_MALFORMAT:
      case CURLE_UNSUPPORTED_PROTOCOL:
        return Error(Reason::kInvalidUri, what, "correct its address");
      case CURLE_WEIRD_SERVER_REPLY:
        return Error(Reason::kSourceProtocol, what, "see what answers at its address");
      case CURLE_OPERATION_TIMEDOUT:
        if (connected > 0) {
          return Error(Reason::kDeadline,
                       absl::StrCat(call_.name, " takes connections and doesn't answer in time"),
                       kHint);
        }
        break;
      default:
        break;
    }
    return Error(Reason::kSourceUnavailable, what, kHint);
  }

  bool TakeBody(absl::string_view bytes) {
    too_long_ = bytes.size() > call_.most_bytes - reply_.body.size();
    if (!too_long_) {
      reply_.body.append(bytes.data(), bytes.size());
    }
    return !too_long_;
  }

  static size_t OnBody(char* data, size_t size, size_t count, void* self) {
    return static_cast<Caller*>(self)->TakeBody({data, size * count}) ? size * count : 0;
  }

  static curl_socket_t OpenSocket(void* self, curlsocktype, curl_sockaddr* address) {
    auto* const caller = static_cast<Caller*>(self);
    const std::vector<Network>& networks = caller->call_.networks;
    const std::optional<IpAddress> ip = IpAddress::Of(address->addr);
    if (!networks.empty() && (!ip.has_value() || std::none_of(networks.begin(), networks.end(),
                                                              [&ip](const Network& network) {
                                                                return network.Contains(*ip);
                                                              }))) {
      caller->refused_ = true;
      return CURL_SOCKET_BAD;
    }
    caller->opened_ = true;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }

  const HttpCall& call_;
  const MultiHandle multi_;
  const EasyHandle easy_;
  curl_slist* headers_ = nullptr;
  HttpReply reply_;
  bool too_long_ = false;
  bool refused_ = false;
  bool opened_ = false;
};

bool MayPass(const absl::StatusOr<HttpReply>& result) {
  if (!result.ok()) {
    const Reason reason = ReasonOf(result.status());
    return reason == Reason::kSourceUnavailable || reason == Reason::kDeadline;
  }
  return result->status == 429 || result->status >= 500;
}

}  // namespace

absl::StatusOr<HttpReply> Call(const HttpCall& call, Cancellation& cancellation) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (initialised != CURLE_OK) {
    return Error(Reason::kInternal, absl::StrCat("libcurl: ", curl_easy_strerror(initialised)));
  }
  return Caller(call).Run(cancellation);
}

absl::StatusOr<HttpReply> CallPatiently(const HttpCall& call, int tries,
                                        Cancellation& cancellation) {
  absl::StatusOr<HttpReply> result = Call(call, cancellation);
  absl::Duration pause = kFirstPause;
  for (int i = 1; i < tries && MayPass(result) && !cancellation.cancelled(); ++i) {
    cancellation.WaitFor(pause);
    pause *= 2;
    result = Call(call, cancellation);
  }
  return result;
}

}  // namespace weightd::source
