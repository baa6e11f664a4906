#ifndef WEIGHTD_TESTS_FAKES_FAKE_SERVICE_MANAGER_H_
#define WEIGHTD_TESTS_FAKES_FAKE_SERVICE_MANAGER_H_

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"

namespace weightd {

// In place of systemd: takes what a service says (sd_notify(3)), stores its descriptors as a unit
// with FileDescriptorStoreMax= does (sd_pid_notify_with_fds(3)), and gives them to the next process
// of the service (sd_listen_fds(3)).
class FakeServiceManager {
 public:
  explicit FakeServiceManager(size_t max_stored);
  ~FakeServiceManager();
  FakeServiceManager(const FakeServiceManager&) = delete;

  // Runs a process of the service to its end. `before_254`: as a systemd that doesn't say how much
  // it stores. Returns its exit code, or the signal's number below zero.
  int Run(const std::vector<std::string>& command, bool before_254 = false);

  const std::string& address() const { return address_; }
  // Names of what is stored, the oldest first.
  std::vector<std::string> names() const ABSL_LOCKS_EXCLUDED(mutex_);
  // While false, nothing that is said is taken.
  void Listen(bool listens) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Hear() ABSL_LOCKS_EXCLUDED(mutex_);
  void Take(absl::string_view message, std::vector<Fd> fds) ABSL_LOCKS_EXCLUDED(mutex_);
  void Put(absl::string_view name, Fd fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_stored_;
  const std::string address_;
  const Fd socket_;
  const Fd stop_;
  mutable absl::Mutex mutex_;
  std::vector<std::pair<std::string, Fd>> stored_ ABSL_GUARDED_BY(mutex_);
  bool listens_ ABSL_GUARDED_BY(mutex_) = true;
  std::thread thread_;
};

}  // namespace weightd

#endif  // WEIGHTD_TESTS_FAKES_FAKE_SERVICE_MANAGER_H_
