#ifndef WEIGHTD_CLIENT_CLI_GPU_OPTIONS_H_
#define WEIGHTD_CLIENT_CLI_GPU_OPTIONS_H_

#include <CLI/CLI.hpp>

#include "client/cli/arguments.h"

namespace weightd::cli {

// `--gpu`, a single one; `what` it is for.
CLI::Option* AddGpu(CLI::App* command, Arguments& arguments, const char* what);

// Of the commands that take weightd off a GPU, or out of the way of the next daemon, and undo it.
void AddDrain(CLI::App* drain, Arguments& arguments);
void AddResume(CLI::App* resume, Arguments& arguments);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_GPU_OPTIONS_H_
