#ifndef WEIGHTD_DAEMON_FORMAT_TENSORIZER_RECORD_H_
#define WEIGHTD_DAEMON_FORMAT_TENSORIZER_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/format/header.h"

// The header that stands before each tensor of a tensorizer file: what its bytes hash to, and how
// they are encrypted. Pure.

namespace weightd::format {

struct RecordHash {
  enum class Kind : uint8_t { kCrc32 = 0, kSha256 = 1 };
  Kind kind = Kind::kCrc32;
  // As it stands in the file: a CRC-32 has 4 bytes, the least significant one first; a SHA-256 32.
  std::string value;
};

// How a key is made of a password: Argon2id, version 1.3 (libsodium's crypto_pwhash).
struct PasswordHashing {
  uint64_t operations = 0;
  // Bytes of memory that it takes. Any number may stand in a file: the caller bounds it.
  uint64_t memory = 0;
  // 16 bytes.
  std::string salt;

  bool operator==(const PasswordHashing&) const = default;
};

// A tensor's bytes as boxes of XSalsa20 and Poly1305 (libsodium's crypto_secretbox_detached): box i
// has the nonce `nonce` + i (a little-endian number of 192 bits) and the i-th 16 bytes of `macs`.
struct SealedBoxes {
  // Of each box but the last, which has the rest.
  uint64_t box_bytes = 0;
  // 24 bytes.
  std::string nonce;
  std::string macs;
};

struct TensorRecord {
  // The module's number in its writer; says nothing of the tensor.
  uint16_t module = 0;
  // What the hashes cover before the tensor's decrypted bytes: the header without its hashes'
  // values and without what it says of encryption.
  std::string hashed_header;
  // In the file's order; none if the writer gave none.
  std::vector<RecordHash> hashes;
  // Set if the key may be made of a password.
  std::optional<PasswordHashing> password;
  // Set if the bytes are encrypted, unset if there are none or they are plain.
  std::optional<SealedBoxes> boxes;
};

// `bytes` are those of tensor.record->header. What they say must be what the file's own header said
// of `tensor`, to the last byte. kMalformedModel names file, tensor, offset in the file and rule.
absl::StatusOr<TensorRecord> ParseTensorRecord(absl::string_view file_name, absl::string_view bytes,
                                               const TensorEntry& tensor,
                                               const TensorizerTraits& traits);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_TENSORIZER_RECORD_H_
