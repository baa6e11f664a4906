#ifndef WEIGHTD_CLIENT_CLI_HEALTH_H_
#define WEIGHTD_CLIENT_CLI_HEALTH_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "client/cli/arguments.h"
#include "client/cpp/admin_client.h"

namespace weightd::cli {

// For probes: one line that says that the daemon serves, and what else `arguments` ask for. `model`
// is looked for if it is not empty. kModelNotResident if a model isn't there.
absl::Status ReportHealth(const client::AdminClient& daemon, const Arguments& arguments,
                          const std::string& model, std::ostream& out);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_HEALTH_H_
