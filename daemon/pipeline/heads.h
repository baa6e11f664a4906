#ifndef WEIGHTD_DAEMON_PIPELINE_HEADS_H_
#define WEIGHTD_DAEMON_PIPELINE_HEADS_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "common/pins.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/header.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/verify.h"
#include "daemon/source/source.h"

namespace weightd::pipeline {

// What has to be known of a model before its weights are read.
struct Heads {
  // Of each file, in their order; checked against the shard index.
  std::vector<format::FileHeader> headers;
  // What they were made of, file by file.
  std::vector<std::string> bytes;
  // What the store and the pins say.
  std::vector<Expected> expected;
  // Room for what is parsed; none for small headers.
  std::vector<host::Reservation> parsing;
};

struct HeadsOptions {
  Pins pins;
  source::Source::PartSizes part_sizes = source::Source::PartSizes::kInferred;
  // As ReadObserver's.
  std::function<bool()> awaited;
  // As HeaderOptions'.
  std::optional<format::CtrKey> ctr_key = {};
};

// Asks for headers and checksums at once.
absl::StatusOr<Heads> ReadHeads(source::Source& source, const ResolvedModel& resolved,
                                const HeadsOptions& options, const source::ReadPolicy& policy,
                                const MakeRoom& make_room, Cancellation& cancellation);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_HEADS_H_
