#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_CHECKSUMS_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_CHECKSUMS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "daemon/source/checksum.h"
#include "daemon/source/http/http_answer.h"

// What S3 says about checksums ("Amazon S3 API Reference", HeadObject with x-amz-checksum-mode).
// Pure. What is not understood counts as not said.

namespace weightd::source {

// A checksum as the answer for an object gives it. With parts, it is a composite of so many.
struct StatedChecksum {
  ChecksumKind kind = ChecksumKind::kSha256;
  S3Checksum checksum;
};
std::vector<StatedChecksum> StatedChecksums(const Answer& answer);

// The size of a part, by the answer for it ("?partNumber=..."); nothing unless the object has
// `parts` of them.
std::optional<uint64_t> PartSize(const Answer& answer, uint32_t parts);

// The sizes of `parts` parts if all but the last are as large as the first, and the last no larger;
// nothing if `size` bytes can't be cut so.
std::optional<std::vector<uint64_t>> InferPartSizes(uint64_t size, uint32_t parts, uint64_t first);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_CHECKSUMS_H_
