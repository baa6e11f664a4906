#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CONNECTIONS_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CONNECTIONS_H_

#include <curl/curl.h>

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "daemon/source/http/http_direct.h"

namespace weightd::source {

struct CurlCleanup {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using CurlHandle = std::unique_ptr<CURL, CurlCleanup>;

// A libcurl multi handle with the connections it keeps alive, and connections of our own. Used by
// one thread at a time.
class Connections {
 public:
  Connections() : multi_(curl_multi_init()) {}
  ~Connections() { curl_multi_cleanup(multi_); }
  Connections(const Connections&) = delete;

  CURLM* multi() const { return multi_; }

  // The one kept last of those that `fits`; null if there is none. Those that ended, or that were
  // idle for long, are closed.
  std::unique_ptr<DirectConnection> Take(absl::FunctionRef<bool(const DirectConnection&)> fits);
  // Closed unless it can be used again.
  void GiveBack(std::unique_ptr<DirectConnection> connection);

 private:
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

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CONNECTIONS_H_
