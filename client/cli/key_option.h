#ifndef WEIGHTD_CLIENT_CLI_KEY_OPTION_H_
#define WEIGHTD_CLIENT_CLI_KEY_OPTION_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/pipeline/model_key.h"

namespace weightd::cli {

// The values of --key and --encrypt, for --help.
inline constexpr char kKeyForms[] =
    "key-file=PATH, password-file=PATH, key-env=NAME or password-env=NAME";

// Of --key alone, where AES-CTR is read.
inline constexpr char kCtrKeyForms[] = "aes-ctr-key-file=PATH or aes-ctr-key-env=NAME";

// Reads the key or password that an option of that name points to: `given` is one of kKeyForms, or
// empty for none. kInvalidArgument for anything else, which is never shown: it may be the secret.
absl::StatusOr<std::optional<pipeline::ModelKey>> ReadKeyOption(absl::string_view option,
                                                                const std::string& given);

// What opens the input: `key` may also be one of kCtrKeyForms, and `iv` the IV that belongs to it,
// or empty.
absl::StatusOr<std::optional<pipeline::ModelKey>> ReadInputKey(const std::string& key,
                                                               const std::string& iv);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_KEY_OPTION_H_
