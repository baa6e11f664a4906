#ifndef WEIGHTD_CLIENT_CLI_WATCH_FEED_H_
#define WEIGHTD_CLIENT_CLI_WATCH_FEED_H_

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cli/progress.h"
#include "client/cli/watch/screen.h"
#include "client/cpp/admin_client.h"
#include "common/cancellation.h"
#include "common/fd.h"

namespace weightd::cli {

// What a daemon says of itself, asked for four times a second, and its events as they come; by
// threads of its own, so that a daemon that is slow or gone keeps nobody from drawing or from
// leaving. Connects again when the daemon is back. Thread-safe.
class Feed {
 public:
  // `daemon` is connected as `options` say; their timeout is how long the end may take.
  Feed(client::AdminClient daemon, client::AdminClient::Options options);
  ~Feed();
  Feed(const Feed&) = delete;

  // Readable when there is something new since the last Look.
  int news() const { return news_.get(); }
  WatchView Look();

 private:
  void Run(client::AdminClient daemon);
  // Until the daemon is gone, or this feed ends.
  void Follow(const client::AdminClient& daemon);
  absl::Status Ask(const client::AdminClient& daemon);
  void Add(v1::WatchEventsResponse event);
  void Measure(const std::vector<v1::ModelSummary>& models) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Lost(const absl::Status& why);

  const client::AdminClient::Options options_;
  Fd news_;
  Cancellation end_;
  absl::Mutex mutex_;
  WatchView view_ ABSL_GUARDED_BY(mutex_);
  // By ModelSummary::model, of those that load.
  std::map<std::string, RateMeter> meters_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_WATCH_FEED_H_
