#ifndef WEIGHTD_CLIENT_CLI_WATCH_SIGNALS_H_
#define WEIGHTD_CLIENT_CLI_WATCH_SIGNALS_H_

#include <signal.h>

#include <utility>
#include <vector>

namespace weightd::cli {

// Signals of a terminal's program as something to wait for: its end (SIGINT, SIGTERM, SIGHUP,
// SIGQUIT), a pause (SIGTSTP), a new size (SIGWINCH). Made before other threads, which then have
// them blocked; one at a time. A signal that is ignored stays so; a second one that asks for the
// end has its default effect.
class Signals {
 public:
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;

  // From here on they reach this thread, and interrupt what it waits for.
  void Deliver();
  // Readable when one came since the last Clear.
  int caught() const;
  void Clear();

  bool end() const;
  // Whether one came since this was asked last.
  bool TakePause();

 private:
  void Handle(int signal, int flags);

  std::vector<std::pair<int, struct sigaction>> before_;
  sigset_t mask_before_ = {};
};

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_WATCH_SIGNALS_H_
