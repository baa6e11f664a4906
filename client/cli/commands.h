#ifndef WEIGHTD_CLIENT_CLI_COMMANDS_H_
#define WEIGHTD_CLIENT_CLI_COMMANDS_H_

#include <ostream>

#include "absl/status/status.h"
#include "client/cli/arguments.h"

namespace weightd::cli {

// Where a command writes: its result to `out`, progress to `err`.
struct Streams {
  std::ostream& out;
  std::ostream& err;
  // Whether `err` is a terminal, and how wide it is.
  bool is_terminal = false;
  size_t columns = 80;
  // Whether `out` is standard output and a terminal that can be drawn on.
  bool can_draw = false;
};

// Does what the command line asks for. An error is not printed: see PrintError.
absl::Status RunCommand(const Arguments& arguments, const Streams& streams);

// One line for people, "weightctl: what; hint", or one JSON object for programs.
void PrintError(const absl::Status& status, bool json, std::ostream& err);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_COMMANDS_H_
