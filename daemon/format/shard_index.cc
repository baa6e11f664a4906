#include "daemon/format/shard_index.h"

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status.h"
#include "daemon/format/json_reader.h"
#include "daemon/format/malformed.h"

namespace weightd::format {
namespace {

bool StaysInFolder(absl::string_view file) {
  for (unsigned char c : file) {
    if (absl::ascii_iscntrl(c) || c == '\\') {
      return false;
    }
  }
  // An empty segment is a leading, doubled or trailing slash.
  for (absl::string_view segment : absl::StrSplit(file, '/')) {
    if (segment.empty() || segment == "." || segment == "..") {
      return false;
    }
  }
  return true;
}

absl::Status Disagree(absl::string_view index_name, absl::string_view what) {
  return Error(Reason::kMalformedModel, absl::StrCat(index_name, ": ", what),
               "the index and the files must be of one save of the model");
}

absl::Status ReadWeightMap(JsonReader& json, ShardIndex& index) {
  std::set<std::string, std::less<>> files;
  RETURN_IF_ERROR(json.ReadObject([&](absl::string_view key) -> absl::Status {
    const uint64_t key_offset = json.key_offset();
    std::string tensor(key);
    ASSIGN_OR_RETURN(const absl::string_view value, json.ReadString());
    const std::string file(value);
    if (!StaysInFolder(file)) {
      return json.ErrorAt(key_offset,
                          absl::StrCat("file ", Quoted(file), " of tensor ", Quoted(tensor),
                                       " is no plain path inside the model's folder"));
    }
    if (files.insert(file).second && files.size() > kMaxShards) {
      return json.ErrorAt(key_offset, absl::StrCat("more than ", kMaxShards, " files"));
    }
    const auto [it, inserted] = index.weight_map.emplace(std::move(tensor), file);
    if (!inserted) {
      return json.ErrorAt(key_offset,
                          absl::StrCat("tensor ", Quoted(it->first), " stands twice, in ",
                                       Quoted(it->second), " and in ", Quoted(file)));
    }
    return absl::OkStatus();
  }));
  index.files.assign(files.begin(), files.end());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ShardIndex> ParseShardIndex(absl::string_view json_text,
                                           absl::string_view index_name) {
  if (json_text.size() > kMaxShardIndexBytes) {
    return Error(Reason::kMalformedModel,
                 absl::StrCat(index_name, ": an index of ", json_text.size(), " bytes; at most ",
                              kMaxShardIndexBytes, " are allowed"));
  }
  ASSIGN_OR_RETURN(JsonReader json, JsonReader::Open(json_text, index_name, 0));
  ShardIndex index;
  bool has_map = false;
  RETURN_IF_ERROR(json.ReadObject([&](absl::string_view key) -> absl::Status {
    if (key != "weight_map") {
      return json.Skip();
    }
    if (std::exchange(has_map, true)) {
      return json.ErrorAt(json.key_offset(), "weight_map stands twice");
    }
    return ReadWeightMap(json, index);
  }));
  RETURN_IF_ERROR(json.Finish());
  if (index.weight_map.empty()) {
    return json.ErrorAt(0, "weight_map is missing or empty");
  }
  return index;
}

absl::Status CheckShards(const ShardIndex& index, absl::Span<const FileHeader> headers,
                         absl::string_view index_name) {
  if (headers.size() != index.files.size()) {
    return Error(Reason::kInternal, absl::StrCat(index_name, ": ", headers.size(), " headers for ",
                                                 index.files.size(), " files"));
  }
  // Where each tensor really is.
  absl::flat_hash_map<absl::string_view, size_t> found;
  for (size_t file = 0; file < headers.size(); ++file) {
    for (const TensorEntry& tensor : headers[file].tensors) {
      const auto [it, inserted] = found.emplace(tensor.name, file);
      if (!inserted) {
        return Disagree(
            index_name,
            absl::StrCat("tensor ", Quoted(tensor.name), " is in two files, ",
                         Quoted(index.files[it->second]), " and ", Quoted(index.files[file])));
      }
      if (!index.weight_map.contains(tensor.name)) {
        return Disagree(index_name,
                        absl::StrCat("tensor ", Quoted(tensor.name), " is in ",
                                     Quoted(index.files[file]), " but not in the index"));
      }
    }
  }
  for (const auto& [tensor, file] : index.weight_map) {
    const auto it = found.find(tensor);
    if (it == found.end()) {
      return Disagree(index_name, absl::StrCat("tensor ", Quoted(tensor), " should be in ",
                                               Quoted(file), " but is not"));
    }
    if (index.files[it->second] != file) {
      return Disagree(index_name,
                      absl::StrCat("tensor ", Quoted(tensor), " should be in ", Quoted(file),
                                   " but is in ", Quoted(index.files[it->second])));
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::format
