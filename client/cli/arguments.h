#ifndef WEIGHTD_CLIENT_CLI_ARGUMENTS_H_
#define WEIGHTD_CLIENT_CLI_ARGUMENTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/completion.h"
#include "client/cli/convert.h"
#include "client/cli/push.h"
#include "client/cpp/remote_address.h"
#include "common/pins.h"

namespace weightd::cli {

enum class Command {
  // --help or --version: `text` is to be printed, and that is all.
  kPrintText,
  kStatus,
  kPreload,
  kList,
  kShow,
  kEvict,
  kDrain,
  kResume,
  kPin,
  kUnpin,
  kLeases,
  kWatch,
  kConfigured,
  kReload,
  kLogLevel,
  kMetrics,
  kHealth,
  kWait,
  kCompletion,
  // What shells ask when the user presses Tab; not in --help.
  kComplete,
  kInspect,
  kPush,
  kConvert,
  kVerify,
  kDoctor,
};

struct Arguments {
  Command command = Command::kPrintText;
  std::string text;
  // Empty: as the client library decides.
  std::string socket_dir;
  // As it was given: see CompleteRemote.
  client::RemoteAddress remote;
  bool json = false;
  // Of one answer; of wait, of all.
  absl::Duration timeout = absl::Seconds(10);
  // URI or alias; for inspect a path or a URI; for health empty if it is of no model.
  std::string model;
  bool pin = false;
  Pins pins;
  // As ConvertArguments::key.
  std::string key;
  bool wait = true;
  bool tensors = false;
  bool force = false;
  // UUIDs, indices, or "all"; of evict, drain and resume at most one UUID or index.
  std::vector<std::string> gpus;
  // Of drain: how long loads may go on.
  absl::Duration drain_wait = absl::ZeroDuration();
  bool fix = false;
  // The CUDA driver's library; empty: the system's, which need not be there.
  std::string cuda_driver;
  // Of watch: a line for each event, also on a terminal.
  bool events = false;
  // Of health: with what the config promises.
  bool ready = false;
  std::string log_level;
  // One of kShells.
  std::string shell;
  // What is to be completed, the last of it.
  std::vector<std::string> words;
  PushRequest push;
  ConvertArguments convert;
};

// INVALID_ARGUMENT if the command line makes no sense.
absl::StatusOr<Arguments> ParseArguments(int argc, const char* const* argv);

// What ParseArguments takes.
CommandLineForm DescribeCommandLine();

// Whether errors are to be JSON, also those of a command line that doesn't parse.
bool WantsJson(int argc, const char* const* argv);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_ARGUMENTS_H_
