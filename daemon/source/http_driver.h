#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_DRIVER_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_DRIVER_H_

#include <curl/curl.h>

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "daemon/source/http_exchange.h"
#include "daemon/source/http_transfer.h"
#include "daemon/source/source.h"

namespace weightd::source {

// A libcurl multi handle, the connections it keeps alive, and those of our own that it made. Used
// by one thread at a time.
class Connections {
 public:
  Connections() : multi_(curl_multi_init()) {}
  ~Connections();
  Connections(const Connections&) = delete;

  CURLM* multi() const { return multi_; }
  // One that was kept and that `transfer` may use; null if there is none.
  std::unique_ptr<DirectConnection> TakeFor(Transfer& transfer);
  // Its handle is in multi(). Closed unless it can be used again.
  void GiveBack(std::unique_ptr<DirectConnection> connection);

 private:
  void Close(const DirectConnection& connection);

  CURLM* const multi_;
  std::vector<std::unique_ptr<DirectConnection>> idle_;
};

// What is kept from read to read. Thread-safe.
class ConnectionPool {
 public:
  std::unique_ptr<Connections> Take();
  void GiveBack(std::unique_ptr<Connections> connections);

 private:
  absl::Mutex mutex_;
  // Used last, taken first: its connections are the freshest.
  std::vector<std::unique_ptr<Connections>> idle_ ABSL_GUARDED_BY(mutex_);
};

// Carries out all of `exchanges`, in their order, at most settings.options.connections at a time,
// on at most two threads (the caller's is one of them). Retries what can be retried; the first
// failure for good ends them all. After the return no exchange is touched any more.
absl::Status RunExchanges(absl::Span<Exchange* const> exchanges, const HttpSettings& settings,
                          const ReadPolicy& policy, ConnectionPool& pool,
                          Cancellation& cancellation);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_DRIVER_H_
