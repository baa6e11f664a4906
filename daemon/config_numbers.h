#ifndef WEIGHTD_DAEMON_CONFIG_NUMBERS_H_
#define WEIGHTD_DAEMON_CONFIG_NUMBERS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// How the numbers of one unit are written in a config.
struct NumberForm {
  // Nothing for what isn't of this form or doesn't fit.
  std::optional<uint64_t> (*parse)(absl::string_view);
  std::string (*print)(uint64_t);
  // What one looks like, for people.
  absl::string_view example;
};

NumberForm FormOf(v1::Unit unit);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_NUMBERS_H_
