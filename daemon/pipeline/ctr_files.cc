#include "daemon/pipeline/ctr_files.h"

#include <algorithm>

#include "common/byte_range.h"
#include "common/status.h"

namespace weightd::pipeline {
namespace {

// Large enough to cost no time beside the cipher, small enough for several threads at a tensor.
constexpr uint64_t kPieceBytes = 8 << 20;

}  // namespace

CtrFiles::CtrFiles(absl::Span<const format::FileHeader> headers, absl::Span<const Extent> extents) {
  traits_.reserve(headers.size());
  for (const format::FileHeader& header : headers) {
    traits_.push_back(header.ctr);
    tensors_ += header.ctr.has_value() ? header.tensors.size() : 0;
  }
  for (const Extent& extent : extents) {
    if (!Has(extent.file)) {
      continue;
    }
    // The header was decrypted when it was read; where it lies in the segment, nobody reads it.
    uint64_t begin = std::max(extent.bytes.begin, headers[extent.file].header_bytes);
    while (begin < extent.bytes.end) {
      const uint64_t end = std::min(AlignDown(begin + kPieceBytes, kPageBytes), extent.bytes.end);
      pieces_.push_back({extent.file, {begin, end}, extent.offset + (begin - extent.bytes.begin)});
      begin = end;
    }
  }
}

std::optional<uint32_t> CtrFiles::first() const {
  for (uint32_t file = 0; file < traits_.size(); ++file) {
    if (Has(file)) {
      return file;
    }
  }
  return std::nullopt;
}

absl::Status CtrFiles::Decrypt(const format::SecretKey& key, const Extent& piece,
                               Arrivals& arrivals, std::byte* segment,
                               absl::FunctionRef<void(ByteRange bytes)> on_decrypted) const {
  const format::CtrTraits& traits = *traits_[piece.file];
  for (uint64_t at = 0; at < piece.bytes.size(); at += kStepBytes) {
    const uint64_t begin = piece.bytes.begin + at;
    const ByteRange step{begin, std::min(begin + kStepBytes, piece.bytes.end)};
    if (!arrivals.AwaitAll(piece.file, step)) {
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(format::ApplyAesCtr(key, traits.iv, begin - traits.begin,
                                        {segment + piece.offset + at, step.size()}));
    on_decrypted(step);
  }
  return absl::OkStatus();
}

}  // namespace weightd::pipeline
