#include "client/cli/remote_options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

void FromEnvironment(const char* variable, std::string& value) {
  const char* const set = std::getenv(variable);
  if (value.empty() && set != nullptr) {
    value = set;
  }
}

}  // namespace

void AddRemote(CLI::App& app, client::RemoteAddress& remote) {
  app.add_option("--address", remote.address, "A daemon of another node")->type_name("HOST:PORT");
  app.add_option("--ca", remote.ca_file, "PEM file of its authority")->type_name("FILE");
  app.add_option("--cert", remote.certificate_file, "PEM file of your certificate")
      ->type_name("FILE");
  app.add_option("--key", remote.key_file, "PEM file of its key")->type_name("FILE");
  app.add_option("--server-name", remote.server_name,
                 "Name in the daemon's certificate, if it is not HOST")
      ->type_name("NAME");
}

absl::Status CompleteRemote(const std::string& socket_dir, client::RemoteAddress& remote) {
  if (!socket_dir.empty()) {
    return remote.address.empty()
               ? absl::OkStatus()
               : Error(Reason::kInvalidArgument, "--socket-dir and --address name two daemons",
                       "give one of them");
  }
  FromEnvironment("WEIGHTD_ADDRESS", remote.address);
  if (remote.address.empty()) {
    return absl::OkStatus();
  }
  FromEnvironment("WEIGHTD_CA", remote.ca_file);
  FromEnvironment("WEIGHTD_CERT", remote.certificate_file);
  FromEnvironment("WEIGHTD_KEY", remote.key_file);
  FromEnvironment("WEIGHTD_SERVER_NAME", remote.server_name);
  for (const auto& [file, option] : {std::pair(&remote.ca_file, "--ca (WEIGHTD_CA)"),
                                     std::pair(&remote.certificate_file, "--cert (WEIGHTD_CERT)"),
                                     std::pair(&remote.key_file, "--key (WEIGHTD_KEY)")}) {
    if (file->empty()) {
      return Error(Reason::kInvalidArgument,
                   absl::StrCat("the daemon at ", remote.address, " is only reached with ", option),
                   "see weightctl --help");
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::cli
