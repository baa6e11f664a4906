#ifndef WEIGHTD_DAEMON_CONFIGURED_MODELS_H_
#define WEIGHTD_DAEMON_CONFIGURED_MODELS_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/uri.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/events.h"

namespace weightd {

// Keeps the promises of the config's model list: loads what is to be preloaded, again and again
// with growing pauses while that fails (but not against an operator who evicts it), and pins what
// is to be pinned as soon as it is resident. Failures are logged and never fatal. One thread.
class ConfiguredModels {
 public:
  struct Model {
    std::string name;
    Uri uri;
    bool preload = false;
    bool pin = false;
  };

  // `cache` outlives it.
  ConfiguredModels(std::vector<Model> models, cache::Cache* cache);
  ~ConfiguredModels();
  ConfiguredModels(const ConfiguredModels&) = delete;

 private:
  struct Preload {
    Model model;
    absl::Time next_try = absl::InfinitePast();
    absl::Duration pause;
    std::unique_ptr<cache::Wait> wait;
  };

  void Run();
  void StartDue() ABSL_LOCKS_EXCLUDED(mutex_);
  void StartPreload(size_t index) ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishPreload(size_t index, const absl::Status& result) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Time NextTry() const;
  void OnEvent(const cache::Event& event) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::vector<Model> pinned_;
  cache::Cache* const cache_;
  // Only the thread touches it.
  std::vector<Preload> preloads_;

  struct Finished {
    size_t index;
    absl::Status result;
  };
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !finished_.empty() || !to_pin_.empty();
  }
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Finished> finished_ ABSL_GUARDED_BY(mutex_);
  std::vector<Uri> to_pin_ ABSL_GUARDED_BY(mutex_);

  std::unique_ptr<cache::EventLog::Subscription> subscription_;
  std::thread thread_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIGURED_MODELS_H_
