#include "daemon/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/source_revision.h"
#include "common/status.h"
#include "daemon/config.h"
#include "daemon/config_yaml.h"
#include "daemon/logging.h"
#include "daemon/process.h"
#include "daemon/source/credentials/text_file.h"

namespace weightd {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxConfigBytes + 1, '\0');
  if (!file.is_open() ||
      (!file.read(text.data(), static_cast<std::streamsize>(text.size())) && !file.eof())) {
    return Error(Reason::kInvalidArgument, absl::StrCat("can't read the config ", path, ": ",
                                                        std::generic_category().message(errno)));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

absl::StatusOr<std::string> ReadConfigFileAgain(const std::string& path) {
  absl::StatusOr<source::TextFile> file = source::ReadTextFile(path, kMaxConfigBytes);
  if (!file.ok()) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("can't read the config ", file.status().message()));
  }
  return std::move(file->text);
}

absl::Status CheckHasModels(absl::string_view text, const std::string& path) {
  ASSIGN_OR_RETURN(const YamlNode yaml, ReadYaml(text, path));
  const bool has_models =
      std::any_of(yaml.items.begin(), yaml.items.end(), [](const YamlNode& item) {
        return item.key == "models" && item.kind == YamlNode::Kind::kList;
      });
  return has_models ? absl::OkStatus()
                    : Error(Reason::kInvalidArgument,
                            absl::StrCat(path, ": has no list of models; the daemon's stays"),
                            "was it cut short? To take all models off the list, say `models: []`");
}

// Sizes are read as the config file's are.
absl::StatusOr<uint64_t> BudgetOf(const std::string& size) {
  const bool plain = std::all_of(
      size.begin(), size.end(), [](unsigned char c) { return absl::ascii_isalnum(c) || c == '.'; });
  if (!plain) {
    return Error(Reason::kInvalidArgument, "--host-budget: not a size", "write 64GiB or 512MiB");
  }
  ASSIGN_OR_RETURN(const v1::Config config,
                   ParseConfig(absl::StrCat("host: {budget: ", size, "}"), "--host-budget", {}));
  return config.host().budget();
}

// With environment and flags applied.
absl::StatusOr<v1::Config> ConfigFrom(absl::string_view text, const CommandLine& line) {
  const char* const environment = std::getenv("WEIGHTD_DIR");
  ASSIGN_OR_RETURN(v1::Config config,
                   ParseConfig(text, line.config_file,
                               {line.socket_dir, environment == nullptr ? "" : environment}));
  if (!line.host_budget.empty()) {
    ASSIGN_OR_RETURN(const uint64_t budget, BudgetOf(line.host_budget));
    config.mutable_host()->set_budget(budget);
  }
  if (!line.log_level.empty()) {
    RETURN_IF_ERROR(LogLevelFromName(line.log_level).status());
    config.mutable_log()->set_level(line.log_level);
  }
  return config;
}

}  // namespace

std::optional<CommandLine> ParseCommandLine(int argc, const char* const* argv, int& exit_code) {
  CommandLine line;
  CLI::App app("weightd: one copy of a model's weights per node");
  app.add_option("--config", line.config_file, "YAML config file")->type_name("FILE");
  app.add_option("--socket-dir", line.socket_dir, "folder of the sockets; default /run/weightd")
      ->type_name("DIR");
  app.add_option("--host-budget", line.host_budget, "limit of host memory, such as 64GiB")
      ->type_name("SIZE");
  app.add_option("--log-level", line.log_level, "debug, info, warning or error")
      ->type_name("LEVEL");
  app.add_flag("--check-config", line.check_config, "check the config and exit");
  app.add_flag("--print-config", line.print_config, "print the config with defaults and exit");
  app.set_version_flag("--version", VersionText("weightd"));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? kExitOk : kExitUsage;
    return std::nullopt;
  }
  return line;
}

absl::StatusOr<v1::Config> ConfigOf(const CommandLine& line) {
  std::string text;
  if (!line.config_file.empty()) {
    ASSIGN_OR_RETURN(text, ReadConfigFile(line.config_file));
  }
  return ConfigFrom(text, line);
}

absl::StatusOr<v1::Config> ConfigAgain(const CommandLine& line, bool needs_models) {
  ASSIGN_OR_RETURN(const std::string text, ReadConfigFileAgain(line.config_file));
  ASSIGN_OR_RETURN(v1::Config config, ConfigFrom(text, line));
  if (needs_models) {
    RETURN_IF_ERROR(CheckHasModels(text, line.config_file));
  }
  return config;
}

int ReportFailure(const absl::Status& status) {
  std::cerr << "weightd: " << status.message() << '\n';
  if (const std::string hint = HintOf(status); !hint.empty()) {
    std::cerr << "  " << hint << '\n';
  }
  return ExitCodeOf(status);
}

}  // namespace weightd
