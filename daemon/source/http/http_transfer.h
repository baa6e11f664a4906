#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_TRANSFER_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_TRANSFER_H_

#include <curl/curl.h>

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "daemon/source/http/address_policy.h"
#include "daemon/source/http/http_answer.h"
#include "daemon/source/http/http_dialect.h"
#include "daemon/source/http/http_direct.h"
#include "daemon/source/http/http_errors.h"
#include "daemon/source/http/http_exchange.h"
#include "daemon/source/http/http_hop.h"
#include "daemon/source/http/http_pace.h"
#include "daemon/source/http/http_settings.h"
#include "daemon/source/source.h"

namespace weightd::source {

// One GET at a time, through its redirects: either libcurl's, driven by whoever adds handle() to a
// multi handle, or on a connection of its own, driven with Pump().
class Transfer final : private AnswerSink {
 public:
  // All outlive it. Once `stopped` is set, no byte is passed on.
  Transfer(const HttpSettings* settings, const ReadPolicy& policy, Pace* pace,
           const std::atomic<bool>* stopped, Cancellation* cancellation);
  ~Transfer() override;
  Transfer(const Transfer&) = delete;

  CURL* handle() const { return handle_; }

  // Whether this try goes over a connection of our own, which has to lead to origin().
  bool direct() const { return direct_; }
  const std::string& origin() const { return origin_; }
  // Makes a new handle ready to connect to origin().
  void PrepareConnect(CURL* handle);
  // Whether a connection that was made for another read may be used.
  bool MayUse(const DirectConnection& connection);
  void SendOver(DirectConnection& connection) {
    kept_connection_ = connection.used_before();
    connection.Send(request_);
  }
  // What can be done without waiting: nothing if the exchange goes on, else how it ended, for
  // Finish(). A try that has to be made once more, in another way, is told by again().
  std::optional<CURLcode> Pump(DirectConnection& connection);
  bool again() const { return again_; }
  // As Begin(), for a try that wasn't seen or that only libcurl can make. False: it can't be made,
  // and Finish() will say why.
  bool Repeat() {
    verdict_ = Prepare();
    return verdict_.ok();
  }

  // Prepares a try of `exchange`, from its first hop.
  absl::Status Begin(Exchange* exchange);

  // Hands over what libcurl holds back because the pace allowed no more. The code of a transfer
  // that ends with it.
  std::optional<CURLcode> Resume();

  // True if at least so many bytes came since it was last true.
  bool TakeMoved(uint64_t least) {
    const bool moved = moved_ >= least;
    moved_ = moved ? 0 : moved_;
    return moved;
  }

  // How a transfer that ended did: done, to be driven on (at another hop, or over a new
  // connection), or failed.
  enum class End { kDone, kDriveOn, kFailed };
  End Finish(CURLcode code);

  // Of the last kFailed.
  const HttpFailure& failure() const { return failure_; }
  // Whether it was for that.
  bool AskedTooMuch() const { return head_done_ && MeansThrottled(answer_.status); }

 private:
  absl::Status Prepare();
  absl::StatusOr<std::vector<std::string>> HeaderLines();
  void SetRequest(const std::vector<std::string>& lines, const std::string& proxy);
  void SetConnection(CURL* handle);
  bool MayReach(const std::optional<IpAddress>& address);
  absl::Status CheckRedirect(const Hop& next);
  void Amend();
  bool GoesDirect() const;
  bool TakesBody() const;
  bool TakeHead();
  // Whether the request went over a connection that had served another.
  bool OnKeptConnection() const;
  End DriveOn();

  bool TakeHeadLine(absl::string_view line) override;
  bool head_done() const override { return head_done_; }
  const Answer& answer() const override { return answer_; }
  uint64_t Allowed() const override { return pace_->left(); }
  absl::Span<char> Space() override;
  bool Took(size_t bytes) override;
  bool TakeBody(absl::Span<const char> bytes) override;
  End Fail(HttpFailure failure);

  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnBody(char* data, size_t size, size_t count, void* self);
  static curl_socket_t OpenSocket(void* self, curlsocktype purpose, curl_sockaddr* address);
  static int BeforeRequest(void* self, char* remote, char* local, int remote_port, int local_port);

  const HttpSettings* const settings_;
  const ReadPolicy policy_;
  Pace* const pace_;
  const std::atomic<bool>* const stopped_;
  Cancellation* const cancellation_;
  CURL* const handle_;
  curl_slist* headers_ = nullptr;
  bool direct_ = false;
  bool again_ = false;
  // This try is libcurl's, and so are all of the server whose parts come in ways that only libcurl
  // understands.
  bool only_libcurl_ = false;
  std::string libcurls_origin_;
  // This try goes over a new connection.
  bool afresh_ = false;
  // Of a try that goes over a connection of our own.
  bool kept_connection_ = false;
  // The answer may be that to another request.
  bool doubtful_ = false;
  std::string origin_;
  std::string request_;
  char tls_detail_[CURL_ERROR_SIZE] = {};

  Exchange* exchange_ = nullptr;
  std::string name_;
  Hop hop_;
  int redirects_ = 0;
  // The last of them.
  std::optional<Answer> redirect_;
  bool proxied_ = false;
  Proof proof_;
  Answer answer_;
  bool head_done_ = false;
  size_t head_bytes_ = 0;
  // The beginning of a body that is an error's text.
  std::string error_text_;
  bool refused_ = false;
  // Whether a connection to a lawful one was tried.
  bool opened_ = false;
  bool held_back_ = false;
  uint64_t moved_ = 0;
  absl::Status verdict_;
  HttpFailure failure_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_TRANSFER_H_
