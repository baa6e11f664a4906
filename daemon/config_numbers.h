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

// How much of a GPU's memory: bytes ("40GiB"), or a part of it ("50%").
struct GpuBudget {
  std::optional<uint64_t> bytes = {};
  // Above 0, at most 1; counts if `bytes` has no value.
  double fraction = 0;
};

// Nothing for what is neither; a part is from 1% to 100%.
std::optional<GpuBudget> ParseGpuBudget(absl::string_view text);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_NUMBERS_H_
