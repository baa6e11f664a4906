#ifndef WEIGHTD_CLIENT_CLI_REMOTE_OPTIONS_H_
#define WEIGHTD_CLIENT_CLI_REMOTE_OPTIONS_H_

#include <string>

#include "absl/status/status.h"
#include "client/cpp/remote_address.h"

namespace CLI {
class App;
}

// Which daemon of another node a command is for.

namespace weightd::cli {

void AddRemote(CLI::App& app, client::RemoteAddress& remote);

// Adds what the environment says (WEIGHTD_ADDRESS, WEIGHTD_CA, WEIGHTD_CERT, WEIGHTD_KEY,
// WEIGHTD_SERVER_NAME). A folder that was given means the daemon of this node. kInvalidArgument if
// both are given, or what an address needs is missing.
absl::Status CompleteRemote(const std::string& socket_dir, client::RemoteAddress& remote);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_REMOTE_OPTIONS_H_
