#ifndef WEIGHTD_TESTS_FAKES_FAKE_FD_STORE_H_
#define WEIGHTD_TESTS_FAKES_FAKE_FD_STORE_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "daemon/fd_store/fd_store.h"

namespace weightd::fakes {

// A store of descriptors in this process, which outlives the daemons that use it one after the
// other. What is there under a name already is not stored again. Thread-safe.
class FakeFdStore final : public fd_store::FdStore {
 public:
  std::vector<fd_store::StoredFd> TakeBack() override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnLate(Take take) override ABSL_LOCKS_EXCLUDED(late_mutex_);
  using FdStore::Store;
  void Store(absl::string_view name, const Fd& fd, absl::string_view model) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(absl::string_view name) override ABSL_LOCKS_EXCLUDED(mutex_);

  // None while it is told to confirm nothing.
  fd_store::StoredNames Confirmed() const override ABSL_LOCKS_EXCLUDED(mutex_);
  bool Flush(absl::Time deadline) override ABSL_LOCKS_EXCLUDED(mutex_);

  // The next TakeBack gives nothing, as that of a keeper that hangs.
  void Hang() ABSL_LOCKS_EXCLUDED(mutex_);
  // It answers: what was there when it was asked is given to whoever takes it. False if nobody
  // does.
  bool Answer() ABSL_LOCKS_EXCLUDED(late_mutex_, mutex_);

  // As a keeper does that is away.
  void ConfirmNothing() ABSL_LOCKS_EXCLUDED(mutex_);
  // From now on it has no room for what is called so at its end.
  void Refuse(std::string end) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of all that is there, sorted.
  std::vector<std::string> Names() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Those that end so.
  std::vector<std::string> NamesOf(absl::string_view end) const ABSL_LOCKS_EXCLUDED(mutex_);
  // A duplicate of the first of that name.
  Fd Find(absl::string_view name) const ABSL_LOCKS_EXCLUDED(mutex_);
  // In place of all of that name.
  void Replace(absl::string_view name, Fd fd) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Held while it takes.
  absl::Mutex late_mutex_;
  Take take_late_ ABSL_GUARDED_BY(late_mutex_);
  mutable absl::Mutex mutex_;
  bool hangs_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<fd_store::StoredFd> late_ ABSL_GUARDED_BY(mutex_);
  std::multimap<std::string, Fd> fds_ ABSL_GUARDED_BY(mutex_);
  bool confirms_ ABSL_GUARDED_BY(mutex_) = true;
  std::optional<std::string> refused_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_FD_STORE_H_
