#include "daemon/source/http/http_sender.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd::source {
namespace {

// libcurl's default of 64 KiB costs a system call for each.
constexpr long kSendBytes = 1 << 20;
// Slower than this counts as stalled.
constexpr long kLeastBytesPerSecond = 1024;
constexpr absl::Duration kLongestConnect = absl::Seconds(10);
constexpr uint64_t kWorthAsking = 1 << 20;
constexpr long kExpectMilliseconds = 500;
constexpr int kMostPollMilliseconds = 1000;

}  // namespace

HttpBody BodyOf(absl::string_view text) {
  return {.size = text.size(), .read = [text](uint64_t offset, absl::Span<char> space) {
            std::memcpy(space.data(), text.data() + offset, space.size());
            return absl::OkStatus();
          }};
}

HttpSender::HttpSender(std::string ca_file, ProxyChoice proxies)
    : ca_file_(std::move(ca_file)),
      proxies_(std::move(proxies)),
      multi_(curl_multi_init(), &curl_multi_cleanup),
      easy_(curl_easy_init()) {}

std::variant<HttpAnswer, HttpFailure> HttpSender::Send(const HttpRequest& request,
                                                       absl::string_view name,
                                                       Cancellation& cancellation) {
  request_ = &request;
  sent_ = 0;
  head_bytes_ = 0;
  answer_ = HttpAnswer();
  verdict_ = absl::OkStatus();
  CheckConnection();
  Prepare(request);
  curl_multi_add_handle(multi_.get(), easy_.get());
  const std::optional<CURLcode> code = Drive(cancellation);
  curl_easy_getinfo(easy_.get(), CURLINFO_ACTIVESOCKET, &socket_);
  curl_multi_remove_handle(multi_.get(), easy_.get());
  if (!code.has_value()) {
    return HttpFailure{.status = cancellation.status()};
  }
  if (!verdict_.ok()) {
    return HttpFailure{.status = Annotate(verdict_, name)};
  }
  if (*code != CURLE_OK) {
    return FailureOfCurl(*code, tls_detail_, name);
  }
  return std::move(answer_);
}

void HttpSender::CheckConnection() {
  char byte = 0;
  // Bytes that nobody asked for, or an end; or libcurl has closed it already.
  const bool stays_quiet = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
                           (errno == EAGAIN || errno == EWOULDBLOCK);
  if (std::exchange(surplus_, false) || !stays_quiet) {
    multi_.reset(curl_multi_init());
  }
}

// How the transfer ended; nothing if it was cancelled before.
std::optional<CURLcode> HttpSender::Drive(Cancellation& cancellation) {
  const Cancellation::Registration registration =
      cancellation.OnCancel([this] { curl_multi_wakeup(multi_.get()); });
  while (!cancellation.cancelled()) {
    int running = 0;
    curl_multi_perform(multi_.get(), &running);
    int left = 0;
    if (const CURLMsg* const message = curl_multi_info_read(multi_.get(), &left)) {
      return message->data.result;
    }
    curl_multi_poll(multi_.get(), nullptr, 0, kMostPollMilliseconds, nullptr);
  }
  return std::nullopt;
}

void HttpSender::Prepare(const HttpRequest& request) {
  // Keeps the connection.
  curl_easy_reset(easy_.get());
  tls_detail_[0] = '\0';
  Set(CURLOPT_URL, request.hop.url.c_str());
  Set(CURLOPT_PATH_AS_IS, 1L);
  Set(CURLOPT_PROTOCOLS_STR, "http,https");
  Set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  Set(CURLOPT_NOSIGNAL, 1L);
  Set(CURLOPT_QUICK_EXIT, 1L);
  Set(CURLOPT_USERAGENT, "weightd");
  Set(CURLOPT_PROXY,
      proxies_.For(request.hop.scheme, absl::StripSuffix(request.hop.host, ".")).c_str());
  // Else libcurl would read no_proxy by rules of its own.
  Set(CURLOPT_NOPROXY, "");
  Set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  Set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(
                                     std::min(request.stall_timeout, kLongestConnect))));
  Set(CURLOPT_LOW_SPEED_LIMIT, kLeastBytesPerSecond);
  Set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(absl::ToInt64Seconds(request.stall_timeout)));
  Set(CURLOPT_ERRORBUFFER, tls_detail_);
  Set(CURLOPT_VERBOSE, 1L);
  Set(CURLOPT_DEBUGFUNCTION, &HttpSender::OnLog);
  Set(CURLOPT_DEBUGDATA, this);
  if (!ca_file_.empty()) {
    Set(CURLOPT_CAINFO, ca_file_.c_str());
  }
  SetBody();
  headers_.reset(request.body.size < kWorthAsking ? curl_slist_append(nullptr, "Expect:")
                                                  : nullptr);
  for (const std::string& line : request.headers) {
    headers_.reset(curl_slist_append(headers_.release(), line.c_str()));
  }
  Set(CURLOPT_HTTPHEADER, headers_.get());
  Set(CURLOPT_HEADERFUNCTION, &HttpSender::OnHeader);
  Set(CURLOPT_HEADERDATA, this);
  Set(CURLOPT_WRITEFUNCTION, &HttpSender::OnAnswer);
  Set(CURLOPT_WRITEDATA, this);
}

void HttpSender::SetBody() {
  if (request_->method == "HEAD") {
    Set(CURLOPT_NOBODY, 1L);
    return;
  }
  if (request_->method == "PUT" || request_->method == "POST") {
    // libcurl asks before it sends (Expect: 100-continue). That costs a round trip, and more with
    // servers that don't answer; a large body is worth it, for its refusal costs little then and is
    // not lost in a connection that breaks.
    Set(CURLOPT_EXPECT_100_TIMEOUT_MS, kExpectMilliseconds);
    Set(CURLOPT_UPLOAD, 1L);
    Set(CURLOPT_UPLOAD_BUFFERSIZE, kSendBytes);
    Set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request_->body.size));
    Set(CURLOPT_READFUNCTION, &HttpSender::ReadBody);
    Set(CURLOPT_READDATA, this);
    Set(CURLOPT_SEEKFUNCTION, &HttpSender::SeekBody);
    Set(CURLOPT_SEEKDATA, this);
  }
  Set(CURLOPT_CUSTOMREQUEST, request_->method.c_str());
}

// What has been read beyond an answer that has no body, or comes in chunks, libcurl throws away,
// and keeps the connection. Only its log tells.
int HttpSender::OnLog(CURL*, curl_infotype kind, char* text, size_t size, void* self) {
  const absl::string_view line(text, size);
  if (kind == CURLINFO_TEXT && (absl::StartsWith(line, "Excess found") ||
                                absl::StartsWith(line, "Leftovers after chunking"))) {
    static_cast<HttpSender*>(self)->surplus_ = true;
  }
  return 0;
}

size_t HttpSender::OnHeader(char* data, size_t size, size_t count, void* self) {
  auto* const sender = static_cast<HttpSender*>(self);
  sender->head_bytes_ += size * count;
  if (sender->head_bytes_ > kMostHeadBytes) {
    sender->verdict_ = Error(Reason::kSourceProtocol, "the server's headers are too long",
                             "check that the endpoint speaks S3");
    return 0;  // which is too few: libcurl gives up
  }
  sender->answer_.head.AddLine({data, size * count});
  return size * count;
}

size_t HttpSender::OnAnswer(char* data, size_t size, size_t count, void* self) {
  auto* const sender = static_cast<HttpSender*>(self);
  std::string& body = sender->answer_.body;
  const uint64_t most = sender->request_->most_answer_bytes;
  if (size * count > most - body.size()) {
    sender->verdict_ =
        Error(Reason::kSourceProtocol, absl::StrCat("an answer of more than ", most, " bytes"),
              "check that the endpoint speaks S3");
    return CURL_WRITEFUNC_ERROR;
  }
  body.append(data, size * count);
  return size * count;
}

size_t HttpSender::ReadBody(char* space, size_t size, size_t count, void* self) {
  auto* const sender = static_cast<HttpSender*>(self);
  const HttpBody& body = sender->request_->body;
  const size_t bytes = std::min<uint64_t>(size * count, body.size - sender->sent_);
  if (bytes == 0) {
    return 0;
  }
  sender->verdict_ = body.read(sender->sent_, {space, bytes});
  sender->sent_ += bytes;
  return sender->verdict_.ok() ? bytes : CURL_READFUNC_ABORT;
}

int HttpSender::SeekBody(void* self, curl_off_t offset, int origin) {
  if (origin != SEEK_SET) {
    return CURL_SEEKFUNC_CANTSEEK;
  }
  static_cast<HttpSender*>(self)->sent_ = static_cast<uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

}  // namespace weightd::source
