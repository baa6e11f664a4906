#ifndef WEIGHTD_CLIENT_CLI_WAIT_H_
#define WEIGHTD_CLIENT_CLI_WAIT_H_

#include <string>

#include "absl/status/status.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"

namespace weightd::cli {

// Waits until a client of this node can attach `model`, and has it loaded if clients may; also for
// the daemon itself. Over the clients' sockets, so that a pod's init container needs no more than
// the pod. What waiting doesn't mend, such as a missing right, is an error at once.
absl::Status WaitForModel(const Arguments& arguments, const std::string& model,
                          const Streams& streams);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_WAIT_H_
