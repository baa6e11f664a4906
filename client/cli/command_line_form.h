#ifndef WEIGHTD_CLIENT_CLI_COMMAND_LINE_FORM_H_
#define WEIGHTD_CLIENT_CLI_COMMAND_LINE_FORM_H_

#include <CLI/CLI.hpp>

#include "client/cli/completion.h"

namespace weightd::cli {

// What the parser takes, as completion needs it.
CommandLineForm FormOf(const CLI::App& app);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_COMMAND_LINE_FORM_H_
