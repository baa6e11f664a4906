#ifndef WEIGHTD_DAEMON_CONFIGURED_MODELS_H_
#define WEIGHTD_DAEMON_CONFIGURED_MODELS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/pins.h"
#include "common/uri.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/events.h"
#include "weightd/v1/admin.pb.h"

namespace weightd {

// Keeps the promises of the config's model list: loads what is to be preloaded, again and again
// with growing pauses while that fails (but not against an operator who evicts it), and pins what
// is to be pinned as soon as it is resident. Failures are logged and never fatal. That the node is
// drained is none: what it holds up is tried when loads are resumed.
//
// Another list may take the first one's place. Promises are of URIs: what several entries of one
// say adds up. A promise that the new list has word for word goes on as it is. One that it has no
// more, or less of, ends: its pin is taken back (an operator's stays), a preload under way is
// cancelled unless others wait for it, and what was preloaded leaves when nobody leases it, unless
// an operator pinned it. One that it has otherwise begins anew; resident bytes that differ from its
// SHA-256 are evicted, leased or not.
//
// Thread-safe. One thread of its own; `mutex_` is never held while the cache is called, for the
// cache tells of events under its own lock.
class ConfiguredModels {
 public:
  struct Model {
    std::string name;
    Uri uri;
    bool preload = false;
    bool pin = false;
    // What its files have to be.
    Pins pins = {};
    // What the cache was told before.
    cache::Placement placement = {};
    // All that the config says of it, in any form.
    std::string settings = {};
  };

  // `cache` outlives it.
  ConfiguredModels(std::vector<Model> models, cache::Cache* cache);
  ~ConfiguredModels();
  ConfiguredModels(const ConfiguredModels&) = delete;

  // Returns when the old promises have ended and the new ones have begun.
  void Replace(std::vector<Model> models) ABSL_LOCKS_EXCLUDED(mutex_);

  // Each model of the list and how far its promise is kept, ordered by name.
  std::vector<v1::ConfiguredModel> Snapshot() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  static constexpr absl::Duration kFirstPause = absl::Seconds(1);

  struct Promise {
    Uri uri;
    // Of the first entry.
    std::string name;
    bool preload = false;
    bool pin = false;
    Pins pins = {};
    cache::Placement placement = {};
    std::string settings = {};

    // Of the try that runs; 0: none does.
    uint64_t attempt = 0;
    std::unique_ptr<cache::Wait> wait = nullptr;
    absl::Time next_try = absl::InfiniteFuture();
    absl::Duration pause = kFirstPause;
    uint32_t failures = 0;
    std::string last_error = {};
    // No load starts on this node for the time being.
    bool held_up = false;
  };
  using Promises = std::map<std::string, Promise>;

  struct Finished {
    std::string uri;
    uint64_t attempt;
    absl::Status result;
  };

  static Promises PromisesOf(const std::vector<Model>& models);
  static cache::PreloadRequest RequestOf(const Promise& promise);
  static void FillState(const Promise& promise, bool resident, v1::ConfiguredModel& model);

  void Run();
  // Null if there is none. For the thread, which alone changes them.
  const Promise* PromiseOf(const std::string& uri) const ABSL_LOCKS_EXCLUDED(mutex_);
  // All of these are called by the thread, which alone changes promises_.
  void Apply(std::vector<Model> models) ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const Promise& before, const Promise* now);
  void Begin(const Promise& now, const Promise* before) ABSL_LOCKS_EXCLUDED(mutex_);
  void StartDue() ABSL_LOCKS_EXCLUDED(mutex_);
  void Finish(const Finished& finished) ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteFailure(Promise& promise, const absl::Status& error)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Landed(const std::string& uri, bool readopted) ABSL_LOCKS_EXCLUDED(mutex_);
  void TryHeldUp() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Time NextTry() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void OnEvent(const cache::Event& event) ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || replacing_.has_value() || !finished_.empty() || !landed_.empty() ||
           resumed_;
  }
  bool Replaced() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !applying_; }

  cache::Cache* const cache_;
  // Only the thread uses them.
  std::minstd_rand random_;
  uint64_t attempts_ = 0;

  mutable absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<std::vector<Model>> replacing_ ABSL_GUARDED_BY(mutex_);
  bool applying_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Finished> finished_ ABSL_GUARDED_BY(mutex_);
  // URIs of what became resident; true: an earlier daemon's, which a store gave late.
  std::map<std::string, bool> landed_ ABSL_GUARDED_BY(mutex_);
  // Loads start again.
  bool resumed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Model> models_ ABSL_GUARDED_BY(mutex_);
  // By URI.
  Promises promises_ ABSL_GUARDED_BY(mutex_);

  std::unique_ptr<cache::EventLog::Subscription> subscription_;
  std::thread thread_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIGURED_MODELS_H_
