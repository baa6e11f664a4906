#ifndef WEIGHTD_TESTS_DAEMON_FD_STORE_KEEPER_STORE_FIXTURE_H_
#define WEIGHTD_TESTS_DAEMON_FD_STORE_KEEPER_STORE_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/fd_store/open.h"
#include "tests/daemon/fd_store/watcher.h"
#include "tests/servers/keeper_process.h"

namespace weightd::fd_store {

using Listed = std::vector<std::pair<std::string, std::string>>;

inline constexpr absl::Duration kPatience = absl::Seconds(20);

// A real keeper, and stores that use it.
class KeeperStoreTest : public ::testing::Test {
 protected:
  // Of a daemon whose names begin so.
  std::unique_ptr<FdStore> OpenStore(const std::string& beginning = "") {
    Options options;
    options.keeper_dir = keeper_.folder();
    options.is_ours = [beginning](absl::string_view name) {
      return absl::StartsWith(name, beginning);
    };
    options.observer = watcher_.observer();
    return std::move(Open(std::move(options))).value();
  }

  static Listed TakeBack(FdStore& store) {
    Listed taken;
    for (const StoredFd& stored : store.TakeBack()) {
      taken.emplace_back(stored.name, TextOf(stored.fd));
    }
    return taken;
  }

  // What the keeper holds, as another daemon sees it.
  Listed Held() { return TakeBack(*OpenStore()); }

  // What a store says first that is opened now and can't reach it.
  absl::Status WhyAway() {
    absl::Mutex mutex;
    absl::Status first;
    Options options;
    options.keeper_dir = keeper_.folder();
    options.observer.on_away = [&](const absl::Status& why, Charges) {
      const absl::MutexLock lock(&mutex);
      first.Update(why);
    };
    const auto store = std::move(Open(std::move(options))).value();
    const absl::MutexLock lock(&mutex);
    const auto told = [&first] { return !first.ok(); };
    mutex.AwaitWithTimeout(absl::Condition(&told), kPatience);
    return first;
  }

  static bool Flush(FdStore& store) { return store.Flush(absl::Now() + kPatience); }

  // What a store gives late.
  class Late {
   public:
    explicit Late(FdStore& store) : store_(store) {
      store.OnLate([this](const std::vector<StoredFd>& stored) {
        absl::MutexLock lock(&mutex_);
        for (const StoredFd& one : stored) {
          taken_.emplace_back(one.name, TextOf(one.fd));
        }
      });
    }
    ~Late() { Stop(); }
    void Stop() { store_.OnLate(nullptr); }
    // Until there is some, or too long.
    Listed Await() {
      absl::MutexLock lock(&mutex_);
      const auto some = [this] {
        mutex_.AssertReaderHeld();
        return !taken_.empty();
      };
      mutex_.AwaitWithTimeout(absl::Condition(&some), kPatience);
      return taken_;
    }

   private:
    FdStore& store_;
    absl::Mutex mutex_;
    Listed taken_ ABSL_GUARDED_BY(mutex_);
  };

  Watcher watcher_;
  KeeperProcess keeper_;
};

}  // namespace weightd::fd_store

#endif  // WEIGHTD_TESTS_DAEMON_FD_STORE_KEEPER_STORE_FIXTURE_H_
