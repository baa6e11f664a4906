#ifndef WEIGHTD_DAEMON_FORMAT_VETURBOIO_H_
#define WEIGHTD_DAEMON_FORMAT_VETURBOIO_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/header.h"

// veTurboIO's encrypted files: a safetensors file, encrypted with AES-CTR from its first byte to
// its last, perhaps behind a header in clear that says how. The key in that header is wrapped by a
// key service, and not looked at.

namespace weightd::format {

inline constexpr absl::string_view kVeturboioMagic = "Byte3ncryptM0del";
// The cipher text follows.
inline constexpr uint64_t kVeturboioHeaderBytes = 262144;

// What the header in clear says.
struct VeturboioHeader {
  size_t key_bytes = 0;
  // 16 bytes, or none.
  std::string iv;
};

// `bytes` are the file's first kVeturboioHeaderBytes, and begin with the magic. What follows the
// JSON's first zero byte is not looked at.
absl::StatusOr<VeturboioHeader> ParseVeturboioHeader(absl::string_view bytes,
                                                     absl::string_view file_name);

// The header of a file that begins with the magic, of which `read` gave the magic already. Its own
// IV counts, whatever `key` says. kKeyMissing without a key, kKeyRefused for one that doesn't open
// it.
absl::StatusOr<FileHeader> ReadVeturboioHeader(absl::string_view file_name, uint64_t file_size,
                                               HeaderReader read, const std::optional<CtrKey>& key);

// The header of a file that is encrypted from its first byte on, or of its cipher text from `begin`
// on. `known` are the first bytes of that, as far as `read` gave them already. kKeyMissing without
// an IV, kKeyRefused if it isn't a safetensors file that is decrypted.
absl::StatusOr<FileHeader> ReadCtrHeader(absl::string_view file_name, uint64_t file_size,
                                         uint64_t begin, std::string known, HeaderReader read,
                                         const CtrKey& key);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_VETURBOIO_H_
