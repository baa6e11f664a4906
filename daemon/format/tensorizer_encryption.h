#ifndef WEIGHTD_DAEMON_FORMAT_TENSORIZER_ENCRYPTION_H_
#define WEIGHTD_DAEMON_FORMAT_TENSORIZER_ENCRYPTION_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "daemon/format/field_reader.h"
#include "daemon/format/tensorizer_record.h"

// What the record of an encrypted file's tensor says of its encryption.

namespace weightd::format {

struct Encryption {
  std::optional<PasswordHashing> password;
  std::optional<SealedBoxes> boxes;
};

// `block` is all that the record says of it, for a tensor of `data_bytes` stored bytes: exactly one
// way to open them if there are any.
absl::StatusOr<Encryption> ParseEncryption(FieldReader block, uint64_t data_bytes);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_TENSORIZER_ENCRYPTION_H_
