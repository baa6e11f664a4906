#ifndef WEIGHTD_TESTS_FAKES_FAKE_FD_STORE_H_
#define WEIGHTD_TESTS_FAKES_FAKE_FD_STORE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"
#include "daemon/fd_store/fd_store.h"

namespace weightd::fakes {

// A store of descriptors in this process, which outlives the daemons that use it one after the
// other. What is there under a name already is not stored again. Thread-safe.
class FakeFdStore final : public fd_store::FdStore {
 public:
  std::vector<fd_store::StoredFd> TakeBack() override ABSL_LOCKS_EXCLUDED(mutex_);
  void Store(absl::string_view name, const Fd& fd) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(absl::string_view name) override ABSL_LOCKS_EXCLUDED(mutex_);

  // Of all that is there, sorted.
  std::vector<std::string> Names() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Those that end so.
  std::vector<std::string> NamesOf(absl::string_view end) const ABSL_LOCKS_EXCLUDED(mutex_);
  // A duplicate of the first of that name.
  Fd Find(absl::string_view name) const ABSL_LOCKS_EXCLUDED(mutex_);
  // In place of all of that name.
  void Replace(absl::string_view name, Fd fd) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  std::multimap<std::string, Fd> fds_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_FD_STORE_H_
