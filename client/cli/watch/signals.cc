#include "client/cli/watch/signals.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace weightd::cli {
namespace {

// A handler reaches nothing else.
std::atomic<int> news{-1};
std::atomic<bool> end_asked{false};
std::atomic<bool> pause_asked{false};

void OnSignal(int signal) {
  const int error_before = errno;
  if (signal == SIGTSTP) {
    pause_asked = true;
  } else if (signal != SIGWINCH) {
    end_asked = true;
  }
  const uint64_t one = 1;
  static_cast<void>(!write(news, &one, sizeof(one)));
  errno = error_before;
}

}  // namespace

Signals::Signals() {
  news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  end_asked = false;
  pause_asked = false;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    Handle(signal, static_cast<int>(SA_RESETHAND));
  }
  Handle(SIGTSTP, 0);
  Handle(SIGWINCH, 0);
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const auto& [signal, action] : before_) {
    sigaddset(&blocked, signal);
  }
  pthread_sigmask(SIG_BLOCK, &blocked, &mask_before_);
}

Signals::~Signals() {
  Deliver();
  for (const auto& [signal, action] : before_) {
    sigaction(signal, &action, nullptr);
  }
  close(news.exchange(-1));
}

void Signals::Handle(int signal, int flags) {
  struct sigaction before = {};
  if (sigaction(signal, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) {
    return;
  }
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  // No SA_RESTART: a terminal that takes no output must not keep us.
  action.sa_flags = flags;
  sigaction(signal, &action, nullptr);
  before_.emplace_back(signal, before);
}

void Signals::Deliver() { pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr); }

int Signals::caught() const { return news; }

void Signals::Clear() {
  eventfd_t count = 0;
  eventfd_read(news, &count);
}

bool Signals::end() const { return end_asked; }

bool Signals::TakePause() { return pause_asked.exchange(false); }

}  // namespace weightd::cli
