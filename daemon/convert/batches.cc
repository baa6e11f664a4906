#include "daemon/convert/batches.h"

namespace weightd::convert {
namespace {

// Takes a store longer to send than to find, and still leaves something for each worker.
constexpr uint64_t kMostBytes = 4 << 20;

ByteRange BytesOf(const format::TensorEntry& tensor) {
  return {tensor.record.has_value() ? tensor.record->header.begin : tensor.bytes.begin,
          tensor.bytes.end};
}

bool Joins(const Batch& batch, uint32_t file, ByteRange bytes) {
  return file == batch.file && bytes.begin >= batch.bytes.end &&
         bytes.end - batch.bytes.begin <= kMostBytes;
}

}  // namespace

std::vector<Batch> MakeBatches(absl::Span<const TensorPlace> tensors) {
  std::vector<Batch> batches;
  batches.reserve(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const ByteRange bytes = BytesOf(*tensors[i].tensor);
    if (batches.empty() || !Joins(batches.back(), tensors[i].file, bytes)) {
      batches.push_back({i, i, tensors[i].file, bytes});
    }
    batches.back().end = i + 1;
    batches.back().bytes.end = bytes.end;
  }
  return batches;
}

}  // namespace weightd::convert
