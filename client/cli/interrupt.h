#ifndef WEIGHTD_CLIENT_CLI_INTERRUPT_H_
#define WEIGHTD_CLIENT_CLI_INTERRUPT_H_

#include <signal.h>

#include <thread>

#include "common/cancellation.h"
#include "common/fd.h"

namespace weightd::cli {

// While it lives, the first SIGINT, SIGTERM or SIGHUP that is not ignored cancels; a second one
// ends the process as always. Made before any other thread that lives as long.
class Interrupt {
 public:
  // `cancellation` outlives it.
  explicit Interrupt(Cancellation* cancellation);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;

 private:
  void Watch(Cancellation* cancellation);

  sigset_t signals_ = {};
  sigset_t before_ = {};
  Fd caught_;
  Fd done_;
  std::thread thread_;
};

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_INTERRUPT_H_
