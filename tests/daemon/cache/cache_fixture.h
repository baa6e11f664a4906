#ifndef WEIGHTD_TESTS_DAEMON_CACHE_CACHE_FIXTURE_H_
#define WEIGHTD_TESTS_DAEMON_CACHE_CACHE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/cache/cache.h"
#include "daemon/device/gpus.h"
#include "daemon/host/host_tier.h"
#include "tests/fakes/fake_loader.h"

namespace weightd::cache {

// An Acquire or a Preload, and what comes of it. Its callbacks check that they are called as
// promised: never at once, `done` once and last.
class Call {
 public:
  AcquireCallbacks ForAcquire();
  PreloadCallbacks ForPreload();
  void Keep(std::unique_ptr<Wait> wait) { wait_ = std::move(wait); }

  // Fails the test after half a minute.
  absl::StatusOr<Grant> Await();
  bool done() const;
  // Until a progress was told that is in `phase`.
  void AwaitPhase(pipeline::Phase phase);
  void Leave() { wait_.reset(); }

 private:
  void Progress(const ProgressSnapshot& progress);
  void Done(absl::StatusOr<Grant> outcome);

  mutable absl::Mutex mutex_;
  std::optional<absl::StatusOr<Grant>> outcome_ ABSL_GUARDED_BY(mutex_);
  std::vector<ProgressSnapshot> progress_ ABSL_GUARDED_BY(mutex_);
  // Last: dies first.
  std::unique_ptr<Wait> wait_;
};

// What the cache tells to those who watch.
class EventTrail {
 public:
  explicit EventTrail(EventLog& log);

  int Count(EventKind kind) const;
  // Until `count` of a kind happened; returns the last of them.
  Event Await(EventKind kind, int count = 1);

 private:
  mutable absl::Mutex mutex_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<EventLog::Subscription> subscription_;
};

// A cache over a fake store and a real host tier. Sizes are in pages; a model of n pages costs
// n + 1, for its index.
class CacheTest : public ::testing::Test {
 protected:
  static constexpr SessionId kAlice{1};
  static constexpr SessionId kBob{2};

  void Start(uint64_t budget_pages, CacheOptions options = {});
  void Stop();

  static Uri Named(const std::string& name);
  void Put(const std::string& name, uint64_t pages, int revision = 1);

  std::unique_ptr<Call> Acquire(const std::string& name, SessionId session = kAlice,
                                bool may_load = true, const std::string& revision = {},
                                source::ReadPolicy policy = {});
  std::unique_ptr<Call> Preload(const std::string& name, bool pin = false,
                                source::ReadPolicy policy = {});
  // Acquires and waits; the lease, or 0 after a failure, which fails the test.
  LeaseId Lease(const std::string& name, SessionId session = kAlice);
  // Loads and keeps nobody waiting or leasing.
  void Load(const std::string& name);
  void Release(LeaseId lease, SessionId session = kAlice);

  bool IsResident(const std::string& name);
  uint64_t UsedPages();
  // Until what was evicted is out of the way: all but `pages` are free or drain.
  void AwaitResidentPages(uint64_t pages);

  // None by default. Outlives the cache.
  device::Gpus* gpus_on_node_ = nullptr;
  std::shared_ptr<host::HostTier> tier_;
  fakes::FakeLoader store_;
  std::unique_ptr<Cache> cache_;
  std::unique_ptr<EventTrail> trail_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_TESTS_DAEMON_CACHE_CACHE_FIXTURE_H_
