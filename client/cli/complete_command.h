#ifndef WEIGHTD_CLIENT_CLI_COMPLETE_COMMAND_H_
#define WEIGHTD_CLIENT_CLI_COMPLETE_COMMAND_H_

#include <ostream>
#include <string>
#include <vector>

namespace weightd::cli {

// What `weightctl complete -- WORD...` answers a shell: a line for each candidate, its description
// after a tab; ":files" if names of files may follow, too. Models' names are the daemon's; one that
// is slow or gone has none.
void PrintCompletions(const std::vector<std::string>& words, std::ostream& out);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_COMPLETE_COMMAND_H_
