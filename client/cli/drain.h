#ifndef WEIGHTD_CLIENT_CLI_DRAIN_H_
#define WEIGHTD_CLIENT_CLI_DRAIN_H_

#include <ostream>

#include "absl/status/status.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cpp/admin_client.h"

namespace weightd::cli {

// `weightctl drain` and `resume`: of a GPU if the arguments name one, else of the node. The first
// of these tells which loads it waits for, and that it goes on in the daemon if a signal ends the
// wait.
absl::Status Drain(const client::AdminClient::Options& options, const Arguments& arguments,
                   const Streams& streams);
absl::Status Resume(const client::AdminClient& daemon, const Arguments& arguments,
                    std::ostream& out);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_DRAIN_H_
