#ifndef WEIGHTD_DAEMON_SOURCE_HF_HF_TOKEN_H_
#define WEIGHTD_DAEMON_SOURCE_HF_HF_TOKEN_H_

#include <string>

#include "absl/status/statusor.h"

namespace weightd::source {

// Where a hub's token is found; by default nowhere.
struct HfToken {
  // Counts before `file`.
  std::string value;
  // Read again for each request: tokens are replaced.
  std::string file;
  // Whether `file` has to be there. If not, there is no token without it.
  bool file_required = false;

  // Without what surrounds it; empty: there is none. Errors name the file and hold nothing of it.
  absl::StatusOr<std::string> Get() const;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HF_HF_TOKEN_H_
