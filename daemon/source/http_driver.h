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

using MultiHandle = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;

// libcurl multi handles with the connections they keep alive. One is used by one thread at a time.
// Thread-safe.
class ConnectionPool {
 public:
  MultiHandle Take();
  void GiveBack(MultiHandle multi);

 private:
  absl::Mutex mutex_;
  // Used last, taken first: its connections are the freshest.
  std::vector<MultiHandle> idle_ ABSL_GUARDED_BY(mutex_);
};

// Carries out all of `exchanges`, in their order, at most settings.options.connections at a time,
// on at most two threads (the caller's is one of them). Retries what can be retried; the first
// failure for good ends them all. After the return no exchange is touched any more.
absl::Status RunExchanges(absl::Span<Exchange* const> exchanges, const HttpSettings& settings,
                          const ReadPolicy& policy, ConnectionPool& pool,
                          Cancellation& cancellation);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_DRIVER_H_
