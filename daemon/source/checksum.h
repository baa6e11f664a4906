#ifndef WEIGHTD_DAEMON_SOURCE_CHECKSUM_H_
#define WEIGHTD_DAEMON_SOURCE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// Checksums of objects as S3 keeps them. Pure.

namespace weightd::source {

enum class ChecksumKind { kCrc32, kCrc32c, kCrc64Nvme, kSha256 };

inline constexpr ChecksumKind kChecksumKinds[] = {ChecksumKind::kCrc32, ChecksumKind::kCrc32c,
                                                  ChecksumKind::kCrc64Nvme, ChecksumKind::kSha256};

// "crc32", "crc32c", "crc64nvme" or "sha256": the end of S3's header "x-amz-checksum-...".
absl::string_view NameOf(ChecksumKind kind);

// Bytes of a value.
size_t SizeOf(ChecksumKind kind);

// What somebody says the checksum of an object is.
struct Checksum {
  ChecksumKind kind = ChecksumKind::kSha256;
  // Raw bytes; a CRC's most significant byte is the first.
  std::string value;
  // Empty: `value` is of the object's bytes. Otherwise it is the checksum of the parts' checksums,
  // one after another, and these are the parts' sizes in order: their sum is the object's.
  std::vector<uint64_t> part_sizes;

  bool composite() const { return !part_sizes.empty(); }
  friend bool operator==(const Checksum&, const Checksum&) = default;
};

// Takes bytes in order. For one thread at a time.
class Hasher {
 public:
  virtual ~Hasher() = default;
  virtual void Update(absl::Span<const std::byte> bytes) = 0;
  // The value of all bytes so far. Once, as the last call.
  virtual std::string Finish() = 0;
  // One that has taken the same bytes.
  virtual std::unique_ptr<Hasher> Clone() const = 0;
  // Its state, for another process of this machine to go on; empty: this kind can't be saved.
  virtual std::string Save() const { return {}; }
};

std::unique_ptr<Hasher> MakeHasher(ChecksumKind kind);
// MD5 is no checksum that stores are asked for, but what most make ETags of.
std::unique_ptr<Hasher> MakeMd5Hasher();

// The value of `bytes` alone.
std::string HashOf(ChecksumKind kind, absl::string_view bytes);
std::string Md5Of(absl::string_view bytes);

// For people: hexadecimal digits as sha256sum writes them, and "-N" after those of a composite of N
// parts (0: of the whole object).
std::string ShowDigest(absl::string_view value, uint32_t parts);

// Base64, and "-N" after it for a composite of N parts.
std::string ToS3(const Checksum& checksum);

// What S3 writes, taken apart. A composite's number of parts is known, their sizes are not.
struct S3Checksum {
  std::string value;
  // 0: of the whole object.
  uint32_t parts = 0;
};
// Nothing if `text` is no checksum of this kind, or has more parts than an object can (10,000).
std::optional<S3Checksum> ParseS3Checksum(ChecksumKind kind, absl::string_view text);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CHECKSUM_H_
