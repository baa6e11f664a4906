#include "daemon/pipeline/plan.h"

#include <algorithm>

#include "common/byte_range.h"

namespace weightd::pipeline {
namespace {

// So many chunks keep some eight connections busy to the end; smaller ones than this cost more than
// they bring.
constexpr uint64_t kWantedChunks = 32;
constexpr uint64_t kSmallChunkBytes = 4 << 20;

uint64_t ChunkBytes(uint64_t total, uint64_t largest) {
  const uint64_t even = AlignUp(total / kWantedChunks, kPageBytes);
  return std::min(std::max(even, kSmallChunkBytes), std::max(largest, kPageBytes));
}

}  // namespace

std::vector<Extent> PlanTransfer(absl::Span<const Extent> extents, uint64_t chunk_bytes) {
  uint64_t total = 0;
  for (const Extent& extent : extents) {
    total += extent.bytes.size();
  }
  const uint64_t chunk = ChunkBytes(total, AlignDown(chunk_bytes, kPageBytes));
  std::vector<Extent> chunks;
  chunks.reserve(total / chunk + 2 * extents.size());
  for (const Extent& extent : extents) {
    for (uint64_t begin = extent.bytes.begin; begin < extent.bytes.end;) {
      const uint64_t end = std::min(AlignDown(begin + chunk, kPageBytes), extent.bytes.end);
      chunks.push_back({extent.file, {begin, end}, extent.offset + (begin - extent.bytes.begin)});
      begin = end;
    }
  }
  return chunks;
}

}  // namespace weightd::pipeline
