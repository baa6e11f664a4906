#ifndef WEIGHTD_CLIENT_CLI_TEXT_H_
#define WEIGHTD_CLIENT_CLI_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// Values as people read them.

namespace weightd::cli {

// "0 B", "512 B", "1.5 MiB", "12 GiB".
std::string BytesText(uint64_t bytes);

// The coarsest two units: "45s", "3m 20s", "2d 4h"; "0s" for less than a second.
std::string DurationText(absl::Duration duration);

// Of what may be short: "<1ms", "12ms", "3.2s", then as DurationText.
std::string TookText(absl::Duration duration);

// Of a revision: enough to tell those of one node apart, and more than a prefix needs (8).
inline constexpr size_t kRevisionDigits = 12;

// Columns that a terminal needs for UTF-8 text, counting one for each character.
size_t DisplayWidth(absl::string_view text);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_TEXT_H_
