#ifndef WEIGHTD_DAEMON_PIPELINE_DESCRIBE_H_
#define WEIGHTD_DAEMON_PIPELINE_DESCRIBE_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/format/header.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/layout.h"
#include "daemon/pipeline/model.h"

// What is kept of the headers that a load has read. Pure.

namespace weightd::pipeline {

// The index of a model that lies in memory as `layout` says, and on devices as LayOutOnDevice does.
// Takes the metadata out of `headers`.
ModelIndex DescribeModel(const ResolvedModel& resolved, absl::Span<format::FileHeader> headers,
                         SegmentLayout layout);

// By file.
std::vector<uint64_t> HeaderBytesOf(absl::Span<const format::FileHeader> headers);

// `bytes` is what `header` was parsed from.
Digests::Header HashHeader(absl::string_view bytes, const format::FileHeader& header);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_DESCRIBE_H_
