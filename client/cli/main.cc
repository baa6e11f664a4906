#include <sys/ioctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/watch/terminal.h"
#include "common/status.h"

int main(int argc, char** argv) {
  using namespace weightd::cli;  // NOLINT(google-build-using-namespace): this is the program
  // A reader that goes away (| head) ends us, quietly.
  std::signal(SIGPIPE, SIG_DFL);
  Streams streams{std::cout, std::cerr};
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0) {
    streams.is_terminal = true;
    streams.columns = size.ws_col != 0 ? size.ws_col : streams.columns;
  }
  streams.can_draw = CanDraw();
  // What gRPC logs of a connection that fails, we say in one line.
  setenv("GRPC_VERBOSITY", "NONE", /*replace=*/0);
  const auto arguments = ParseArguments(argc, argv);
  const absl::Status status = arguments.ok() ? RunCommand(*arguments, streams) : arguments.status();
  const bool written = static_cast<bool>(std::cout.flush());
  if (!status.ok()) {
    PrintError(status, WantsJson(argc, argv), std::cerr);
    return ExitCodeOf(status);
  }
  if (!written) {
    const absl::Status lost = weightd::Error(weightd::Reason::kOutputNotWritten,
                                             "the result could not be written to standard output",
                                             "make room where it goes");
    PrintError(lost, WantsJson(argc, argv), std::cerr);
    return ExitCodeOf(lost);
  }
  return kGood;
}
