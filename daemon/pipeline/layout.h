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
// Each file is one contiguous extent, read in place. Where it goes depends on how well the file's
// writer aligned its tensors to their element types (DTypeAlignment):
//   1. all aligned: the whole file, header included, at an offset congruent to the file's
//      modulo 4096, so that O_DIRECT reads land in place;
//   2. all aligned but for the length of the header (writers that don't pad it): the tensors'
//      bytes, shifted so that the first begins at a multiple of 64;
//   3. else: the tensors' bytes as in 1, at the end of a somewhat larger room, from where each
//      tensor is then moved down to a multiple of 64 (moves). Bytes between the tensors of such
//      a file mean nothing.

namespace weightd::pipeline {

// Bytes of a file and where in the segment they go.
struct Extent {
  // Index into the model's files.
  uint32_t file = 0;
  ByteRange bytes;
  // Counted from the segment's first byte.
  uint64_t offset = 0;
};

// A tensor that goes to its final place once all bytes have arrived. Never upwards, and moves done
// in order overwrite nothing that a later one needs.
struct Move {
  uint64_t from = 0;
  uint64_t to = 0;
  uint64_t bytes = 0;
};

struct SegmentLayout {
  // At most one per file, ordered by offset, not overlapping.
  std::vector<Extent> extents;
  std::vector<Move> moves;
  // Ordered by name, unique.
  std::vector<Piece> pieces;
  // Whole pages, at least one.
  uint64_t segment_bytes = 0;
};

// Tensors are moved and shifted to multiples of this: cache lines, and whatever vector loads want.
inline constexpr uint64_t kTensorAlignment = 64;

// `headers` are those of `files`, in that order, each checked against its file's size.
// kMalformedModel for a tensor name in two files or sizes that no machine has.
absl::StatusOr<SegmentLayout> LayOut(absl::Span<const ModelFile> files,
                                     absl::Span<const format::FileHeader> headers);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_LAYOUT_H_
