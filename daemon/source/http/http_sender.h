#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SENDER_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SENDER_H_

#include <curl/curl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "daemon/source/http/http_answer.h"
#include "daemon/source/http/http_errors.h"
#include "daemon/source/http/http_hop.h"
#include "daemon/source/http/proxy_choice.h"

namespace weightd::source {

// Bytes that are read as they go out, and again if they have to go out again.
struct HttpBody {
  uint64_t size = 0;
  // Fills all of `space` with what begins at `offset`. An error ends the request for good.
  std::function<absl::Status(uint64_t offset, absl::Span<char> space)> read;
};

// `text` outlives it.
HttpBody BodyOf(absl::string_view text);

struct HttpRequest {
  std::string method = "GET";
  Hop hop;
  // "Name: value".
  std::vector<std::string> headers;
  // Of PUT and POST.
  HttpBody body;
  // How long neither side may send anything worth mentioning; at least a second.
  absl::Duration stall_timeout = absl::Seconds(30);
  // The longest answer that is taken.
  uint64_t most_answer_bytes = 8 << 20;
};

struct HttpAnswer {
  Answer head;
  std::string body;
};

// Sends requests with bodies, one at a time, over a connection that is kept alive, unless more came
// on it than an answer: that would be read as the next one. What the server answers is the caller's
// to judge; redirects are not followed. For one thread at a time.
class HttpSender {
 public:
  // `ca_file`: authorities to trust; empty: the system's.
  HttpSender(std::string ca_file, ProxyChoice proxies);
  HttpSender(const HttpSender&) = delete;

  // An answer, or why there is none; the cancellation's reason within 100 ms.
  // `name` stands for the request in errors.
  std::variant<HttpAnswer, HttpFailure> Send(const HttpRequest& request, absl::string_view name,
                                             Cancellation& cancellation);

 private:
  struct Cleanup {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  };

  template <typename Value>
  void Set(CURLoption option, Value value) {
    curl_easy_setopt(easy_.get(), option, value);
  }
  // Closes the connection if it can't be used again.
  void CheckConnection();
  void Prepare(const HttpRequest& request);
  void SetBody();
  std::optional<CURLcode> Drive(Cancellation& cancellation);

  static int OnLog(CURL* handle, curl_infotype kind, char* text, size_t size, void* self);
  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnAnswer(char* data, size_t size, size_t count, void* self);
  static size_t ReadBody(char* space, size_t size, size_t count, void* self);
  static int SeekBody(void* self, curl_off_t offset, int origin);

  const std::string ca_file_;
  const ProxyChoice proxies_;
  // Holds the connection.
  std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)> multi_;
  const std::unique_ptr<CURL, Cleanup> easy_;
  std::unique_ptr<curl_slist, Cleanup> headers_;
  char tls_detail_[CURL_ERROR_SIZE] = {};
  // Of the last request. libcurl closes it when it likes: looked at, never read.
  curl_socket_t socket_ = CURL_SOCKET_BAD;
  // libcurl saw that more came than the last answer.
  bool surplus_ = false;
  // Of the request in progress.
  const HttpRequest* request_ = nullptr;
  uint64_t sent_ = 0;
  size_t head_bytes_ = 0;
  HttpAnswer answer_;
  absl::Status verdict_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SENDER_H_
