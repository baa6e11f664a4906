#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_ANSWERS_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_ANSWERS_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"
#include "daemon/device/worker_messages.h"

namespace weightd::device {

// What the worker says to the daemon. The daemon always reads, so these only wait for it to get to
// that; if it is gone, the process ends here. Thread-safe.
class Answers {
 public:
  explicit Answers(int socket) : socket_(socket) {}
  Answers(const Answers&) = delete;

  // An error that stays with the process ends it, after the answer.
  void Send(uint64_t number, const absl::Status& status) {
    Send(MakeAnswer(number, status), status);
  }
  void Send(Answer answer, const absl::Status& status, Fd fd = {}) ABSL_LOCKS_EXCLUDED(mutex_);
  // The last answer: ends the process.
  [[noreturn]] void SendLast(uint64_t number, const absl::Status& status)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void SendBytes(absl::string_view bytes, int fd = -1) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const int socket_;
  absl::Mutex mutex_;
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_ANSWERS_H_
