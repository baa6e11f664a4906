#ifndef WEIGHTD_DAEMON_CONVERT_BATCHES_H_
#define WEIGHTD_DAEMON_CONVERT_BATCHES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/byte_range.h"
#include "daemon/format/header.h"

namespace weightd::convert {

// A tensor that is to be read.
struct TensorPlace {
  // Index into the input's files.
  uint32_t file = 0;
  const format::TensorEntry* tensor = nullptr;
};

// Tensors of a list that follow one another in a file, few MiB in all; or a larger one.
struct Batch {
  // Of the list, half-open.
  size_t begin = 0;
  size_t end = 0;
  uint32_t file = 0;
  // From the first one's first byte to the last one's last, their records' headers too.
  ByteRange bytes;
};

// Cuts a list into batches, in its order. No byte is in two places of a batch. Pure.
std::vector<Batch> MakeBatches(absl::Span<const TensorPlace> tensors);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_BATCHES_H_
