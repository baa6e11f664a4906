#ifndef WEIGHTD_COMMON_PINS_H_
#define WEIGHTD_COMMON_PINS_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightd {

// The SHA-256 that files of a model must have: 64 lower-case hexadecimal digits by file name, as
// the model lists it. The empty name stands for the only file of a model.
using Pins = std::map<std::string, std::string>;

// `digest` may begin with "sha256:". kInvalidArgument for what is no digest, and for another one of
// the same file.
absl::Status AddPin(absl::string_view file, absl::string_view digest, Pins& pins);

// The same for how people write it: "DIGEST" or "FILE=DIGEST".
absl::Status AddPin(absl::string_view text, Pins& pins);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_PINS_H_
