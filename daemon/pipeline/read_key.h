#ifndef WEIGHTD_DAEMON_PIPELINE_READ_KEY_H_
#define WEIGHTD_DAEMON_PIPELINE_READ_KEY_H_

#include <string>

#include "absl/status/statusor.h"
#include "daemon/pipeline/model_key.h"

namespace weightd::pipeline {

// Where a secret is: one of these is set.
struct KeyPlace {
  // A file with the key: 32 bytes, or as many in hexadecimal or base64 digits.
  std::string key_file = {};
  // A file with a password; line breaks at its end don't count.
  std::string password_file = {};
  // Environment variables with such contents.
  std::string key_env = {};
  std::string password_env = {};

  bool operator==(const KeyPlace&) const = default;
};

// Reads the secret, and wipes what it doesn't return. kKeyMissing if it can't be read or is no key;
// no error holds any of it.
absl::StatusOr<ModelKey> ReadKey(const KeyPlace& place);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_READ_KEY_H_
