#ifndef WEIGHTD_TESTS_DAEMON_FD_STORE_WATCHER_H_
#define WEIGHTD_TESTS_DAEMON_FD_STORE_WATCHER_H_

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/fd_store/courier.h"

namespace weightd::fd_store {

// What a store's observer was told, in words.
class Watcher {
 public:
  Observer observer() {
    Observer observer;
    observer.on_away = [this](const absl::Status& why, Charges ours) {
      Add(absl::StrCat("away: ", why.message(), "; ", ours.models, " models"));
    };
    observer.on_back = [this](Charges ours) { Add(absl::StrCat("back: ", ours.descriptors)); };
    observer.on_refused = [this](absl::string_view name, absl::string_view model,
                                 const absl::Status& why) {
      Add(absl::StrCat("refused: ", name, model.empty() ? "" : absl::StrCat(" of ", model), ": ",
                       why.message()));
    };
    observer.on_others = [this](size_t count) { Add(absl::StrCat("others: ", count)); };
    observer.on_late = [this](size_t count) { Add(absl::StrCat("late: ", count)); };
    return observer;
  }

  // Whether that was told so often, before long.
  bool Heard(absl::string_view beginning, int times = 1) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const auto heard = [&] {
      mutex_.AssertReaderHeld();
      int count = 0;
      for (const std::string& line : lines_) {
        count += absl::StartsWith(line, beginning) ? 1 : 0;
      }
      return count >= times;
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&heard), absl::Seconds(20));
  }

  std::vector<std::string> lines() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return lines_;
  }

 private:
  void Add(std::string line) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    lines_.push_back(std::move(line));
  }

  mutable absl::Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::fd_store

#endif  // WEIGHTD_TESTS_DAEMON_FD_STORE_WATCHER_H_
