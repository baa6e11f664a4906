#ifndef WEIGHTD_DAEMON_PIPELINE_SMALL_FILES_H_
#define WEIGHTD_DAEMON_PIPELINE_SMALL_FILES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/source.h"

// What lies beside the weights of a folder, for clients that should need neither the network nor
// credentials: found when the weights are, read when the headers are, kept in one sealed segment.

namespace weightd::pipeline {

// What a model's small files may have together. Those that don't fit any more are left out.
inline constexpr uint64_t kMaxSmallFileBytes = 64 << 20;

// What a folder may have and libraries look for, relative to it, sorted. No other file is kept: a
// name from a store goes no further.
absl::Span<const absl::string_view> WellKnownSmallFiles();

// Nothing is there, as far as we are told: stores answer "denied" for what is missing when they may
// not list.
bool IsAbsent(const absl::Status& status);

// Those that are there, sorted by name, each with its place or the reason why it is left out: it is
// too large, can't be pinned to one version, lies where nobody may read, or is denied by a store
// that says of others that they are absent. A listing, where the
// source gives one, saves it the questions for all that are not there; those that are `known` are
// asked for alone. What `policy` denies is NotAllowed(), and so is the model: there or not.
absl::StatusOr<std::vector<SmallFile>> FindSmallFiles(source::Source& source, const Uri& folder,
                                                      const KnownSmallFiles& known,
                                                      const source::ReadPolicy& policy,
                                                      Cancellation& cancellation);

// Bytes of those that are kept.
uint64_t TotalBytes(absl::Span<const SmallFile> files);

// Reads them into a segment of `reservation`, verifies them against what the store says of them,
// and seals it; null if they have no bytes. kSourceChanged if one is no longer what was found.
absl::StatusOr<std::shared_ptr<host::HostSegment>> ReadSmallFiles(
    source::Source& source, absl::Span<const SmallFile> files, absl::string_view label,
    host::Reservation reservation, const source::ReadPolicy& policy,
    const source::ReadObserver& observer, Cancellation& cancellation);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_SMALL_FILES_H_
