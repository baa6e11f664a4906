#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_PROCESS_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/fd.h"

namespace weightd::device {

// A child process that may touch the driver, and the daemon's end of the socket to it. Killed and
// reaped when this dies. Move-only; used by one thread, which has to live as long as the process:
// its end is the child's (PR_SET_PDEATHSIG).
class WorkerProcess {
 public:
  // Runs `command` (empty: this program) with "--gpu-worker" and `arguments`, under `name`, which
  // ps shows. The child has no other descriptors than its socket (kWorkerSocket) and the standard
  // ones, and of the environment only what the driver may want: our secrets are not its business.
  static absl::StatusOr<WorkerProcess> Start(const std::vector<std::string>& command,
                                             const std::string& name,
                                             const std::vector<std::string>& arguments);
  WorkerProcess(WorkerProcess&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)),
        pidfd_(std::move(other.pidfd_)),
        socket_(std::move(other.socket_)) {}
  WorkerProcess& operator=(WorkerProcess&&) = delete;
  ~WorkerProcess();

  pid_t pid() const { return pid_; }
  // Readable when the process has ended.
  int pidfd() const { return pidfd_.get(); }
  // Non-blocking.
  int socket() const { return socket_.get(); }

  // Asks it to end: closes the conversation.
  void HangUp();
  void Kill();
  // Whether the process has ended, after at most `duration`. If so, it is reaped.
  bool WaitFor(absl::Duration duration);
  // "was killed by signal 9", "ended with code 1".
  const std::string& how_it_ended() const { return how_it_ended_; }

 private:
  WorkerProcess(pid_t pid, Fd pidfd, Fd socket)
      : pid_(pid), pidfd_(std::move(pidfd)), socket_(std::move(socket)) {}

  pid_t pid_ = 0;
  Fd pidfd_;
  Fd socket_;
  bool reaped_ = false;
  std::string how_it_ended_;
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_PROCESS_H_
