#ifndef WEIGHTD_DAEMON_FORMAT_SHARD_INDEX_H_
#define WEIGHTD_DAEMON_FORMAT_SHARD_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/format/header.h"

namespace weightd::format {

inline constexpr absl::string_view kShardIndexName = "model.safetensors.index.json";
inline constexpr uint64_t kMaxShardIndexBytes = 32 << 20;
// Each file costs requests; the largest published models have some hundreds.
inline constexpr size_t kMaxShards = 10'000;

// `model.safetensors.index.json`: which tensor lies in which file.
struct ShardIndex {
  // Tensor name to file name. File names are relative and stay inside the folder.
  std::map<std::string, std::string> weight_map;
  // The files, each once, sorted.
  std::vector<std::string> files;
};

// `index_name` names the file in errors.
absl::StatusOr<ShardIndex> ParseShardIndex(absl::string_view json, absl::string_view index_name);

// That index and files agree: every mapped tensor is in its file, no tensor is in a file but not in
// the map, none in two files. `headers` are those of `index.files`, in that order.
absl::Status CheckShards(const ShardIndex& index, absl::Span<const FileHeader> headers,
                         absl::string_view index_name);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_SHARD_INDEX_H_
