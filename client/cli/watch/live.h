#ifndef WEIGHTD_CLIENT_CLI_WATCH_LIVE_H_
#define WEIGHTD_CLIENT_CLI_WATCH_LIVE_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cpp/admin_client.h"

namespace weightd::cli {

// Draws what a daemon does on standard output, which is a terminal, until the user leaves (q,
// Ctrl-C, SIGTERM) or the daemon hasn't answered for `patience`; the terminal is then as before.
absl::Status WatchLive(const client::AdminClient::Options& options, absl::Duration patience);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_WATCH_LIVE_H_
