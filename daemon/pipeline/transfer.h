#ifndef WEIGHTD_DAEMON_PIPELINE_TRANSFER_H_
#define WEIGHTD_DAEMON_PIPELINE_TRANSFER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "daemon/host/host_segment.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/progress.h"
#include "daemon/pipeline/tensor_check.h"
#include "daemon/pipeline/uploads.h"
#include "daemon/pipeline/verify.h"
#include "daemon/source/source.h"

namespace weightd::pipeline {

// What moves a load's bytes, and those that look at them on the way. All of it outlives a transfer.
struct TransferParts {
  source::Source& source;
  const source::ReadPolicy& policy;
  // Of the model.
  absl::Span<const ModelFile> files;
  Verifier& verifier;
  TensorCheck& tensors;
  Uploads& uploads;
  // At most, of one read.
  uint64_t chunk_bytes = 0;
  Progress& progress;
  Cancellation& cancellation;
};

// The requests for `chunks`, whose places are counted from `begin`.
std::vector<source::ReadRequest> RequestsOf(absl::Span<const Extent> chunks,
                                            absl::Span<const ModelFile> files, std::byte* begin);

// All bytes of a load into its host segment, each straight to its place; hashed, decrypted and on
// their way to GPUs as they come. For one use.
class Transfer {
 public:
  explicit Transfer(const TransferParts& parts) : parts_(parts) {}

  // Returns when all bytes are there and what they have to be, or nobody touches the segment any
  // more. `extents` are the layout's, `headers` the files' if they were kept. GPUs are told of all
  // bytes, but for `zeros`.
  absl::Status Run(host::WritableSegment& segment, absl::Span<const Extent> extents,
                   absl::Span<const std::string> headers);

  // Whether the bytes were found not to be what the source says they are.
  bool damaged() const { return damaged_; }

 private:
  // Reads all chunks, and has the segment's pages made; a failure cancels `transfer`.
  void Read(host::WritableSegment& segment, absl::Span<const Extent> chunks,
            source::ReadObserver observer, Cancellation& transfer);
  // Asks for the sizes of parts, which the verifier's had inferred, and looks at the bytes, all of
  // which are in their place, once more: whether they are what it was to verify.
  bool HoldsInAskedParts(absl::Span<const Extent> chunks, const std::byte* segment,
                         absl::Span<const std::string> headers);

  const TransferParts& parts_;
  bool damaged_ = false;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_TRANSFER_H_
