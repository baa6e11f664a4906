#ifndef WEIGHTD_DAEMON_PIPELINE_STREAM_LAYOUT_H_
#define WEIGHTD_DAEMON_PIPELINE_STREAM_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/byte_range.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/model.h"

// How a model passes through a window of memory on its way to GPUs, where it has no host segment:
// file behind file, each as it is stored, in the order in which its bytes are read. Pure.

namespace weightd::pipeline {

struct StreamLayout {
  // What is read of the files, one extent for each that has something behind its header; places are
  // congruent to the file's own modulo 4096.
  std::vector<Extent> extents;
  // Tensors that no file has the bytes of; behind all files.
  ByteRange zeros;
  // What goes to the device. `host` is counted in the stream; ordered by it.
  std::vector<device::CopyRun> runs;
  uint64_t bytes = 0;
};

// `header_bytes` are those of the index's files, in their order; `zeros` are the places in the host
// segment that the index would have.
StreamLayout LayOutStream(const ModelIndex& index, absl::Span<const uint64_t> header_bytes,
                          absl::Span<const ByteRange> zeros);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_STREAM_LAYOUT_H_
