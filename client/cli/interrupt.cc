#include "client/cli/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "common/status.h"

namespace weightd::cli {

Interrupt::Interrupt(Cancellation* cancellation) {
  sigemptyset(&signals_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    // A signal that is ignored (by nohup, by a shell for what runs in the background) stays so:
    // blocked, it would come through the descriptor all the same.
    struct sigaction action = {};
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) {
      sigaddset(&signals_, signal);
    }
  }
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  caught_ = Fd(signalfd(-1, &signals_, SFD_CLOEXEC));
  done_ = Fd(eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread([this, cancellation] { Watch(cancellation); });
}

Interrupt::~Interrupt() {
  eventfd_write(done_.get(), 1);
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void Interrupt::Watch(Cancellation* cancellation) {
  pollfd waits[] = {{caught_.get(), POLLIN, 0}, {done_.get(), POLLIN, 0}};
  while (poll(waits, 2, -1) < 0 && errno == EINTR) {
  }
  if ((waits[0].revents & POLLIN) == 0) {
    return;
  }
  signalfd_siginfo info{};
  if (read(caught_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    cancellation->Cancel(Error(Reason::kCancelled, "interrupted"));
  }
  // This thread takes the next one, which does what it does by default.
  pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
  while (poll(&waits[1], 1, -1) < 0 && errno == EINTR) {
  }
}

}  // namespace weightd::cli
