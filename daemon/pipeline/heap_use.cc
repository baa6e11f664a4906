#include "daemon/pipeline/heap_use.h"

#include <string>

#include "common/byte_range.h"

namespace weightd::pipeline {
namespace {

// What is no larger belongs to the daemon's own memory, not to the budget.
constexpr uint64_t kUncountedBytes = 1 << 20;
// What parsing takes for each byte of a header, at the most: measured with metadata of millions of
// empty entries (tensors take a fifth of it), and once more for the byte itself, which is kept
// until it is known what it has to be.
constexpr uint64_t kParsingFactor = 25;

}  // namespace

uint64_t ParsingBytes(uint64_t text_bytes) {
  return text_bytes <= kUncountedBytes ? 0 : AlignUp(text_bytes * kParsingFactor, kPageBytes);
}

uint64_t HeapBytes(const ModelIndex& index) {
  constexpr uint64_t kBlock = 16;  // what malloc adds
  // A node of a map beside its value: colour and three pointers.
  constexpr uint64_t kNode = 32 + kBlock;
  const auto text = [](const std::string& s) {
    return s.capacity() < sizeof(std::string) ? 0 : s.capacity() + kBlock;
  };
  constexpr uint64_t kHasher = 512;
  uint64_t bytes = index.pieces.capacity() * sizeof(Piece) +
                   index.extents.capacity() * sizeof(Extent) + index.files.size() * kHasher;
  for (const Verified& verified : index.verified) {
    bytes += sizeof(Verified) + text(verified.value);
  }
  for (const Piece& piece : index.pieces) {
    bytes += text(piece.name) + text(piece.torch_type) + piece.shape.capacity() * sizeof(uint64_t) +
             kBlock;
  }
  for (const auto& [key, value] : index.metadata) {
    bytes += kNode + 2 * sizeof(std::string) + text(key) + text(value);
  }
  return bytes <= kUncountedBytes ? 0 : AlignUp(bytes, kPageBytes);
}

}  // namespace weightd::pipeline
