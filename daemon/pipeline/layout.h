#ifndef WEIGHTD_DAEMON_PIPELINE_LAYOUT_H_
#define WEIGHTD_DAEMON_PIPELINE_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "daemon/format/header.h"
#include "daemon/pipeline/model.h"

// How a revision's tensors lie in its segment: the layout `as stored`. Pure.
//
// Where a file goes depends on how well its writer aligned its tensors to their element types
// (DTypeAlignment):
//   1. all aligned: the whole file, header included, as one extent at an offset congruent to the
//      file's modulo 4096, so that O_DIRECT reads land in place;
//   2. all aligned but for the length of the header (writers that don't pad it): the tensors'
//      bytes as one extent, shifted so that the first begins at a multiple of 64;
//   3. else, and with tensorizer files always: each tensor by itself at a multiple of 64. What else
//      the file has behind its header follows the last tensor, for its checksums.

namespace weightd::pipeline {

struct SegmentLayout {
  // Ordered by file and bytes; those of a file have no gaps. Their places don't overlap.
  std::vector<Extent> extents;
  // Tensors that no file has the bytes of: zeros. Ordered.
  std::vector<ByteRange> zeros;
  // Ordered by name, unique.
  std::vector<Piece> pieces;
  // Whole pages, at least one.
  uint64_t segment_bytes = 0;
};

// Tensors that don't lie well are placed at multiples of this: cache lines, and whatever vector
// loads want.
inline constexpr uint64_t kTensorAlignment = 64;

// `headers` are those of `files`, in that order, each checked against its file's size.
// kMalformedModel for a tensor name in two files or sizes that no machine has.
absl::StatusOr<SegmentLayout> LayOut(absl::Span<const ModelFile> files,
                                     absl::Span<const format::FileHeader> headers);

// Where a byte of a file that an extent has lies in the segment. `extents` are a layout's.
uint64_t PlaceOf(absl::Span<const Extent> extents, uint32_t file, uint64_t offset);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_LAYOUT_H_
