#include "daemon/process.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/status.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

constexpr int kHeaps = 4;

sigset_t StopSet() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

int ExitCodeOf(const absl::Status& status) {
  switch (CodeOf(ReasonOf(status))) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
      return kExitUsage;
    case absl::StatusCode::kPermissionDenied:
      return kExitNotAllowed;
    case absl::StatusCode::kResourceExhausted:
      return kExitTryAgain;
    case absl::StatusCode::kUnavailable:
      return kExitUnavailable;
    default:
      return kExitSoftware;
  }
}

void PrepareProcess() {
  prctl(PR_SET_DUMPABLE, 0);
  signal(SIGPIPE, SIG_IGN);
  // Many threads allocate little. By default the C library gives them eight heaps a core, each of
  // which keeps what it once needed.
  mallopt(M_ARENA_MAX, kHeaps);
  umask(0077);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  sigset_t taken = StopSet();
  sigaddset(&taken, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &taken, nullptr);
}

absl::StatusOr<std::unique_ptr<StopSignals>> StopSignals::Start(Cancellation* stopping,
                                                                absl::Duration grace) {
  const sigset_t stop = StopSet();
  Fd signals(signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK));
  Fd done(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!signals.valid() || !done.valid()) {
    return ErrnoError(errno, "watch for signals");
  }
  std::unique_ptr<StopSignals> watcher(new StopSignals(std::move(signals), std::move(done)));
  watcher->thread_ =
      std::thread([self = watcher.get(), stopping, grace] { self->Run(stopping, grace); });
  return watcher;
}

StopSignals::~StopSignals() {
  eventfd_write(done_.get(), 1);
  thread_.join();
}

bool StopSignals::WaitForSignal(int timeout_ms) {
  pollfd waits[] = {{signals_.get(), POLLIN, 0}, {done_.get(), POLLIN, 0}};
  while (poll(waits, 2, timeout_ms) < 0 && errno == EINTR) {
  }
  signalfd_siginfo info{};
  return read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info));
}

void StopSignals::Run(Cancellation* stopping, absl::Duration grace) {
  if (!WaitForSignal(-1)) {
    return;
  }
  Log(LogLevel::kInfo, "daemon.stopping");
  stopping->Cancel(Error(Reason::kShuttingDown, "the daemon is stopping"));
  stopped_.Notify();
  pollfd done{done_.get(), POLLIN, 0};
  const bool again = WaitForSignal(static_cast<int>(absl::ToInt64Milliseconds(grace)));
  if (again || poll(&done, 1, 0) != 1) {
    _exit(kExitSoftware);
  }
}

}  // namespace weightd
