#include "daemon/source/s3/s3_checksums.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace weightd::source {
namespace {

// Of an upload in parts: "<digits>-<number of parts>".
bool IsOfParts(const std::string& etag) { return absl::StrContains(etag, '-'); }

}  // namespace

std::vector<StatedChecksum> StatedChecksums(const Answer& answer) {
  const std::string type = answer.ChecksumField("x-amz-checksum-type");
  std::vector<StatedChecksum> stated;
  for (const ChecksumKind kind : kChecksumKinds) {
    const std::optional<S3Checksum> checksum =
        ParseS3Checksum(kind, answer.ChecksumField(absl::StrCat("x-amz-checksum-", NameOf(kind))));
    if (!checksum.has_value()) {
      continue;
    }
    // Older stores don't tell the type: there the number of parts does, which some forget, too.
    // There are no composites of CRC-64.
    const bool composite = checksum->parts > 0;
    const bool clear =
        type.empty() ? composite || kind == ChecksumKind::kCrc64Nvme || !IsOfParts(answer.etag)
                     : type == (composite ? "COMPOSITE" : "FULL_OBJECT");
    if (clear) {
      stated.push_back({kind, *checksum});
    }
  }
  return stated;
}

std::optional<uint64_t> PartSize(const Answer& answer, uint32_t parts) {
  uint32_t count = 0;
  if (answer.status != 206 || !answer.content_length.has_value() || answer.unclear_length ||
      !absl::SimpleAtoi(answer.ChecksumField("x-amz-mp-parts-count"), &count) || count != parts) {
    return std::nullopt;
  }
  return answer.content_length;
}

std::optional<std::vector<uint64_t>> InferPartSizes(uint64_t size, uint32_t parts, uint64_t first) {
  if (parts == 0 || first == 0 || first > size) {
    return std::nullopt;
  }
  const uint64_t needed = size / first + (size % first == 0 ? 0 : 1);
  if (needed != parts) {
    return std::nullopt;
  }
  std::vector<uint64_t> sizes(parts, first);
  sizes.back() = size - (parts - 1) * first;
  return sizes;
}

}  // namespace weightd::source
