#ifndef WEIGHTD_DAEMON_PIPELINE_READ_KEY_H_
#define WEIGHTD_DAEMON_PIPELINE_READ_KEY_H_

#include <string>

#include "absl/status/statusor.h"
#include "daemon/pipeline/model_key.h"

namespace weightd::pipeline {

// Where a secret is: one of the first four is set.
struct KeyPlace {
  // A file with the key: 32 bytes, or as many in hexadecimal or base64 digits.
  std::string key_file = {};
  // A file with a password; line breaks at its end don't count.
  std::string password_file = {};
  // Environment variables with such contents.
  std::string key_env = {};
  std::string password_env = {};
  // It is a key of AES-CTR, which may also have 16 bytes. If no file and no variable is set, it is
  // where veTurboIO looks for it: VETURBOIO_KEY, and its IV VETURBOIO_IV (also VETUROIO_…).
  bool aes_ctr = false;
  // Its IV, if files don't say theirs: hexadecimal or base64 digits, or a variable with them.
  std::string iv = {};
  std::string iv_env = {};

  bool operator==(const KeyPlace&) const = default;
};

// Reads the secret, and wipes what it doesn't return. kKeyMissing if it can't be read or is no key;
// no error holds any of it.
absl::StatusOr<ModelKey> ReadKey(const KeyPlace& place);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_READ_KEY_H_
