#ifndef WEIGHTD_TESTS_DAEMON_CONFIG_PARSING_H_
#define WEIGHTD_TESTS_DAEMON_CONFIG_PARSING_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/config.h"

namespace weightd {

// Of a file "w.yaml".
absl::StatusOr<v1::Config> Parse(absl::string_view text);
// Fails the test if it is refused.
v1::Config Parsed(absl::string_view text);

struct Broken {
  std::string text;
  std::string message;
};

// Each is refused with its error.
void ExpectRefused(const std::vector<Broken>& cases);

}  // namespace weightd

#endif  // WEIGHTD_TESTS_DAEMON_CONFIG_PARSING_H_
