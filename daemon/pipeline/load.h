#ifndef WEIGHTD_DAEMON_PIPELINE_LOAD_H_
#define WEIGHTD_DAEMON_PIPELINE_LOAD_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/destinations.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/pipeline/progress.h"
#include "daemon/pipeline/staged_transfer.h"
#include "daemon/pipeline/stream_layout.h"
#include "daemon/pipeline/transfer.h"
#include "daemon/pipeline/uploads.h"
#include "daemon/source/source.h"

namespace weightd::pipeline {

// One load of one revision. Everything that it is made with outlives it.
class Load {
 public:
  Load(source::Source& source, const EncodeIndex& encode_index, const LoaderOptions& options,
       const ResolvedModel& resolved, source::Source::PartSizes part_sizes,
       const source::ReadPolicy& policy, const std::optional<ModelKey>& key, Progress& progress,
       Cancellation& cancellation)
      : source_(source),
        encode_index_(encode_index),
        options_(options),
        resolved_(resolved),
        part_sizes_(part_sizes),
        policy_(policy),
        key_(key),
        progress_(progress),
        cancellation_(cancellation) {}

  // The whole path from a resolved model to a published one. What fails on the way frees what came
  // before it.
  absl::StatusOr<ResidentModel> Run(const MakeRoom& make_room, const Destinations& destinations);

  // Whether the bytes were found not to be what the source says they are.
  bool damaged() const { return damaged_; }

 private:
  // What was given for this load goes before what the options name.
  absl::StatusOr<std::optional<ModelKey>> Key() const;
  // What lies beside the weights: little enough to be there before them.
  absl::StatusOr<std::shared_ptr<host::HostSegment>> SmallFiles(host::Reservation reservation);
  // To host memory, and from there to GPUs while they come.
  absl::Status FillSegment(const TransferParts& parts, host::Reservation reservation,
                           absl::Span<const ByteRange> zeros, ResidentModel& model);
  // To GPUs alone, through a window of host memory.
  absl::Status PassThrough(const TransferParts& parts, host::Reservation reservation,
                           const StreamLayout& stream, StagedTransfer::Sizes sizes,
                           ResidentModel& model);
  absl::Status FinishUploads(Uploads& uploads, ResidentModel& model);
  std::string Label() const;

  source::Source& source_;
  const EncodeIndex& encode_index_;
  const LoaderOptions& options_;
  const ResolvedModel& resolved_;
  const source::Source::PartSizes part_sizes_;
  const source::ReadPolicy& policy_;
  const std::optional<ModelKey>& key_;
  Progress& progress_;
  Cancellation& cancellation_;
  // The files' headers; none if they are large.
  std::vector<std::string> headers_;
  bool damaged_ = false;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_LOAD_H_
