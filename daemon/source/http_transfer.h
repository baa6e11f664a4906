#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_TRANSFER_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_TRANSFER_H_

#include <curl/curl.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/source/address_policy.h"
#include "daemon/source/http_answer.h"
#include "daemon/source/http_errors.h"
#include "daemon/source/http_exchange.h"
#include "daemon/source/http_hop.h"
#include "daemon/source/http_source.h"
#include "daemon/source/proxy_choice.h"
#include "daemon/source/source.h"

namespace weightd::source {

// What all transfers of an HTTP source share.
struct HttpSettings {
  HttpSourceOptions options;
  std::vector<Network> allowed;
  ProxyChoice proxies;
};

// One GET at a time on one libcurl handle, through its redirects. Driven by whoever adds handle()
// to a multi handle.
class Transfer {
 public:
  // `settings` and `stopped` outlive it; once `stopped` is set, no byte is passed on.
  Transfer(const HttpSettings* settings, const ReadPolicy& policy,
           const std::atomic<bool>* stopped);
  ~Transfer();
  Transfer(const Transfer&) = delete;

  CURL* handle() const { return handle_; }

  // Prepares a try of `exchange`, from its first hop.
  absl::Status Begin(Exchange* exchange);

  // True if at least so many bytes came since it was last true.
  bool TakeMoved(uint64_t least) {
    const bool moved = moved_ >= least;
    moved_ = moved ? 0 : moved_;
    return moved;
  }

  // How a transfer that ended did: done, to be driven on (at another hop), or failed.
  enum class End { kDone, kNextHop, kFailed };
  End Finish(CURLcode code);

  // Of the last kFailed.
  const HttpFailure& failure() const { return failure_; }

 private:
  absl::Status Prepare();
  void SetRequest();
  bool MayReach(const std::optional<IpAddress>& address);
  bool TakeHeadLine(absl::string_view line);
  bool TakeHead();
  bool TakeBody(absl::Span<const char> bytes);
  End Fail(HttpFailure failure);

  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnBody(char* data, size_t size, size_t count, void* self);
  static curl_socket_t OpenSocket(void* self, curlsocktype purpose, curl_sockaddr* address);
  static int BeforeRequest(void* self, char* remote, char* local, int remote_port, int local_port);

  const HttpSettings* const settings_;
  const ReadPolicy policy_;
  const std::atomic<bool>* const stopped_;
  CURL* const handle_;
  curl_slist* headers_ = nullptr;
  char tls_detail_[CURL_ERROR_SIZE] = {};

  Exchange* exchange_ = nullptr;
  std::string name_;
  Hop hop_;
  int redirects_ = 0;
  bool proxied_ = false;
  Answer answer_;
  bool head_done_ = false;
  bool refused_ = false;
  // Whether a connection to a lawful one was tried.
  bool opened_ = false;
  uint64_t moved_ = 0;
  absl::Status verdict_;
  HttpFailure failure_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_TRANSFER_H_
