#ifndef WEIGHTD_DAEMON_FORMAT_SECRETBOX_H_
#define WEIGHTD_DAEMON_FORMAT_SECRETBOX_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/format/secret_key.h"
#include "daemon/format/tensorizer_record.h"

// Opens and makes what tensorizer encrypts (libsodium: secretbox, pwhash). Pure, but for what is to
// be random; thread-safe.

namespace weightd::format {

// How many boxes a tensor of `nbytes` has.
uint64_t BoxCount(const SealedBoxes& boxes, uint64_t nbytes);

// Decrypts `box`, number `index` of a tensor's, in place. False if key, nonce, bytes or MAC are not
// those that it was made with; its bytes are then as they were.
bool OpenBox(const SecretKey& key, const SealedBoxes& boxes, uint64_t index,
             absl::Span<std::byte> box);

// Encrypts `box` in place, as box number `index` of a tensor with this first nonce; its MAC. `key`
// has 32 bytes.
std::string SealBox(const SecretKey& key, absl::string_view nonce, uint64_t index,
                    absl::Span<std::byte> box);

// 24 random bytes: as good as never made twice.
std::string NewNonce();

// As costly as libsodium's "moderate": a second or so, and 256 MiB.
PasswordHashing NewPasswordHashing();

// What a file may ask for: more is refused, for it would hold a load, or the machine's memory.
inline constexpr uint64_t kMostPasswordMemory = uint64_t{1} << 30;
inline constexpr uint64_t kMostPasswordOperations = 16;

// Takes a second or so, and `hashing.memory` bytes. kMalformedModel for parameters that libsodium
// or the bounds above refuse.
absl::StatusOr<SecretKey> KeyOfPassword(absl::string_view password, const PasswordHashing& hashing);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_SECRETBOX_H_
