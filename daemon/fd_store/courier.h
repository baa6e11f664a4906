#ifndef WEIGHTD_DAEMON_FD_STORE_COURIER_H_
#define WEIGHTD_DAEMON_FD_STORE_COURIER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/fd_store/carrier.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/fd_store/journal.h"

namespace weightd::fd_store {

// What is to outlive the daemon.
struct Charges {
  size_t descriptors = 0;
  size_t models = 0;
};

// Told what an operator may want to know, by the threads that use the store and its own.
struct Observer {
  // The keeper can't be reached; once, until it is back, and again if it is another reason by then
  // that an operator has to end. Nothing outlives the daemon meanwhile.
  std::function<void(const absl::Status& why, Charges ours)> on_away = [](const absl::Status&,
                                                                          Charges) {};
  // It is, and holds these of ours.
  std::function<void(Charges ours)> on_back = [](Charges) {};
  // This one is not stored. `model` is what it is of; empty if nobody said that.
  std::function<void(absl::string_view name, absl::string_view model, const absl::Status& why)>
      on_refused = [](absl::string_view, absl::string_view, const absl::Status&) {};
  // It holds so many of others; once, when ours were taken back.
  std::function<void(size_t descriptors)> on_others = [](size_t) {};
  // It has so many from before that TakeBack didn't wait for, and that are taken back now.
  std::function<void(size_t descriptors)> on_late = [](size_t) {};
};

// Whether a descriptor of that name is one that this process, or an earlier one in its place, has
// stored. A keeper may hold others', which are let alone.
using IsOurs = std::function<bool(absl::string_view name)>;

// Carries what a journal holds to a keeper, on a thread of its own, and all of it again whenever
// the way there was lost, or whoever looks for the keeper would find another. What was not taken
// back in time, because the keeper was away, is given later. Its own end removes nothing, and
// leaves undone what isn't done.
//
// mutex_ is held for moments only, never while the keeper is asked.
class Courier final : public FdStore {
 public:
  Courier(std::unique_ptr<Carrier> carrier, IsOurs is_ours, Observer observer);
  ~Courier() override;

  // Waits for the keeper, if it is there, up to 2 s. Asks once more whether it is.
  std::vector<StoredFd> TakeBack() ABSL_LOCKS_EXCLUDED(mutex_) override;
  void OnLate(Take take) ABSL_LOCKS_EXCLUDED(late_mutex_, mutex_) override;
  using FdStore::Store;
  void Store(absl::string_view name, const Fd& fd, absl::string_view model)
      ABSL_LOCKS_EXCLUDED(mutex_) override;
  void Remove(absl::string_view name) ABSL_LOCKS_EXCLUDED(mutex_) override;
  bool Flush(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_) override;
  StoreStatus status() const ABSL_LOCKS_EXCLUDED(mutex_) override;
  StoredNames Confirmed() const ABSL_LOCKS_EXCLUDED(mutex_) override;

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  // From Open until the way is lost or we stop.
  absl::Status Serve() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status ListOnce() ABSL_LOCKS_EXCLUDED(mutex_);
  void LeaveOthers(std::vector<StoredFd>& found) ABSL_LOCKS_EXCLUDED(mutex_);
  // For TakeBack, or whoever takes what comes late.
  void KeepFound(std::vector<StoredFd> found) ABSL_LOCKS_EXCLUDED(mutex_);
  // What TakeBack didn't wait for, if there is somebody who takes it.
  void GiveLate() ABSL_LOCKS_EXCLUDED(late_mutex_, mutex_);
  // Until nothing is left to do.
  absl::Status DoAll() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Do(const Journal::Task& task) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether that is news.
  bool Lost(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  void IsBack() ABSL_LOCKS_EXCLUDED(mutex_);
  void Wake() const;
  // Until there is something to do, or the way is lost, which is an error.
  absl::Status WaitForWork() const;
  bool stopping() const ABSL_LOCKS_EXCLUDED(mutex_);
  Charges OursLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return {.descriptors = journal_.size(), .models = journal_.models()};
  }
  bool HasListed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return listed_ || (lost_ && attempt_failed_ >= attempt_wanted_);
  }
  bool IsHurried() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || attempt_wanted_ > attempt_;
  }
  bool IsIdle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !unsettled_; }

  const std::unique_ptr<Carrier> carrier_;
  const IsOurs is_ours_;
  const Observer observer_;
  const Fd wake_;
  // Held while it takes.
  absl::Mutex late_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  Take take_late_ ABSL_GUARDED_BY(late_mutex_);
  mutable absl::Mutex mutex_;
  Journal journal_ ABSL_GUARDED_BY(mutex_);
  std::vector<StoredFd> found_ ABSL_GUARDED_BY(mutex_);
  bool list_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool listed_ ABSL_GUARDED_BY(mutex_) = false;
  bool taken_back_ ABSL_GUARDED_BY(mutex_) = false;
  // Since all that was to be done first was done.
  bool reached_ ABSL_GUARDED_BY(mutex_) = false;
  // The one that is being stored is in the journal, and not among its pending ones.
  bool storing_ ABSL_GUARDED_BY(mutex_) = false;
  // What is being stored, or was since the carrier last settled.
  StoredNames unconfirmed_ ABSL_GUARDED_BY(mutex_);
  size_t others_ ABSL_GUARDED_BY(mutex_) = 0;
  // The keeper can't be reached, and the observer knows; the last reason that it was told.
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  Reason told_ ABSL_GUARDED_BY(mutex_) = Reason::kUnspecified;
  // Something was asked for that may not be done yet.
  bool unsettled_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // To reach the keeper: the last that began, the last that failed, the one that TakeBack waits
  // for.
  uint64_t attempt_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t attempt_failed_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t attempt_wanted_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_COURIER_H_
