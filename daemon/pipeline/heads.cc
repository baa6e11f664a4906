#include "daemon/pipeline/heads.h"

#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/shard_index.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/heap_use.h"
#include "daemon/pipeline/read_headers.h"

namespace weightd::pipeline {
namespace {

// Fills in headers, bytes and parsing.
absl::Status ReadCheckedHeaders(source::Source& source, const ResolvedModel& resolved,
                                const HeadsOptions& options, const source::ReadPolicy& policy,
                                const MakeRoom& make_room, Cancellation& cancellation,
                                Heads& heads) {
  heads.bytes.resize(resolved.files.size());
  uint64_t room = 0;
  const auto room_for = [&](uint64_t header_bytes) -> absl::Status {
    const uint64_t wanted = ParsingBytes(resolved.shard_index.size() + header_bytes);
    if (wanted > room) {
      ASSIGN_OR_RETURN(host::Reservation more, make_room(wanted - room));
      more.Settle();  // taken at once, not filled over time
      heads.parsing.push_back(std::move(more));
      room = wanted;
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(room_for(0));
  HeaderOptions header_options;
  header_options.make_room = room_for;
  header_options.awaited = options.awaited;
  header_options.ctr_key = options.ctr_key;
  header_options.on_bytes = [&heads](size_t file, absl::string_view more) {
    absl::StrAppend(&heads.bytes[file], more);
  };
  ASSIGN_OR_RETURN(heads.headers,
                   ReadHeaders(source, resolved.files, policy, cancellation, header_options));
  if (resolved.shard_index.empty()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const format::ShardIndex index,
                   format::ParseShardIndex(resolved.shard_index, format::kShardIndexName));
  return format::CheckShards(index, heads.headers, format::kShardIndexName);
}

}  // namespace

absl::StatusOr<Heads> ReadHeads(source::Source& source, const ResolvedModel& resolved,
                                const HeadsOptions& options, const source::ReadPolicy& policy,
                                const MakeRoom& make_room, Cancellation& cancellation) {
  Heads heads;
  ASSIGN_OR_RETURN(const std::vector<PinnedFile> pinned, MatchPins(options.pins, resolved.files));
  Cancellation asking;
  const Cancellation::Registration link =
      cancellation.OnCancel([&asking] { asking.Cancel(Error(Reason::kCancelled, "stopped")); });
  absl::StatusOr<std::vector<Expected>> expected;
  std::thread asker(
      [&] { expected = AskChecksums(source, resolved.files, options.part_sizes, policy, asking); });
  const absl::Status read =
      ReadCheckedHeaders(source, resolved, options, policy, make_room, cancellation, heads);
  if (!read.ok()) {
    asking.Cancel(read);
  }
  asker.join();
  RETURN_IF_ERROR(cancellation.status());
  RETURN_IF_ERROR(read);
  ASSIGN_OR_RETURN(heads.expected, std::move(expected));
  for (const PinnedFile& pin : pinned) {
    heads.expected.push_back({pin.file,
                              {.kind = source::ChecksumKind::kSha256,
                               .value = absl::HexStringToBytes(pin.digest),
                               .part_sizes = {}},
                              Authority::kPin});
  }
  return heads;
}

}  // namespace weightd::pipeline
