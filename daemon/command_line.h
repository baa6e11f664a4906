#ifndef WEIGHTD_DAEMON_COMMAND_LINE_H_
#define WEIGHTD_DAEMON_COMMAND_LINE_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// What one types by hand.
struct CommandLine {
  std::string config_file;
  std::string socket_dir;
  std::string host_budget;
  std::string log_level;
  bool check_config = false;
  bool print_config = false;
};

// Nothing if there is nothing more to do than exit with `exit_code`: help, the version or a wrong
// flag was answered.
std::optional<CommandLine> ParseCommandLine(int argc, const char* const* argv, int& exit_code);

// The file's config, if there is one, with defaults, environment and flags applied.
absl::StatusOr<v1::Config> ConfigOf(const CommandLine& line);

// The same while the daemon runs. Only of a regular file, so that no pipe holds us. With
// `needs_models` a file without a list of models is refused, be it an empty one: what is left of a
// file that was cut short may well be a config.
absl::StatusOr<v1::Config> ConfigAgain(const CommandLine& line, bool needs_models);

// Says on stderr what went wrong and what to do; returns what to exit with.
int ReportFailure(const absl::Status& status);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_COMMAND_LINE_H_
