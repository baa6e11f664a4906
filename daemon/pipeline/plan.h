#ifndef WEIGHTD_DAEMON_PIPELINE_PLAN_H_
#define WEIGHTD_DAEMON_PIPELINE_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "daemon/pipeline/layout.h"

namespace weightd::pipeline {

// Cuts extents into chunks that a source reads in parallel. Pure. Chunks cover every byte of the
// extents once, in order, so that the segment fills from front to back; cuts lie at multiples of
// 4096 of the file. A chunk has at most `chunk_bytes` (a multiple of 4096, at least that), and less
// where the model is so small that too few would result to keep a source's connections busy.
std::vector<Extent> PlanTransfer(absl::Span<const Extent> extents, uint64_t chunk_bytes);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_PLAN_H_
