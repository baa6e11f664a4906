#ifndef WEIGHTD_DAEMON_FORMAT_AES_CTR_H_
#define WEIGHTD_DAEMON_FORMAT_AES_CTR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/format/secret_key.h"

// AES in counter mode (NIST SP 800-38A), through OpenSSL. It hides bytes and proves nothing of
// them: who changes a bit of the cipher text changes that bit of the plain text. Pure; thread-safe.

namespace weightd::format {

inline constexpr size_t kCtrIvBytes = 16;

// What opens a file that was encrypted as a whole.
struct CtrKey {
  // 16 or 32 bytes.
  SecretKey key;
  // Of files that don't say theirs: 16 bytes, or none. No secret.
  std::string iv = {};
};

// Decrypts, or encrypts, `bytes` where they lie; the first of them is byte number `offset` of the
// plain file, whose first block has `iv` as its counter. The counter is a big-endian number of 128
// bits, and wraps. kKeyRefused for a key or an IV of another length.
absl::Status ApplyAesCtr(const SecretKey& key, absl::string_view iv, uint64_t offset,
                         absl::Span<std::byte> bytes);

// An IV as people write it: 32 hexadecimal digits, or base64. Nothing if it is none.
std::optional<std::string> ParseIv(absl::string_view text);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_AES_CTR_H_
