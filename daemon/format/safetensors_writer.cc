#include "daemon/format/safetensors_writer.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/format/field_writer.h"
#include "daemon/format/malformed.h"
#include "daemon/format/safetensors.h"

namespace weightd::format {
namespace {

constexpr uint64_t kHeaderAlignment = 8;
constexpr absl::string_view kMetadataKey = "__metadata__";

// A JSON string (RFC 8259, section 7) of UTF-8.
void AppendString(std::string& json, absl::string_view text) {
  json += '"';
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') {
      json += '\\';
      json += letter;
    } else if (static_cast<unsigned char>(letter) < 0x20) {
      absl::StrAppendFormat(&json, "\\u%04x", static_cast<unsigned>(letter));
    } else {
      json += letter;
    }
  }
  json += '"';
}

void AppendStrings(std::string& json, const std::map<std::string, std::string>& strings) {
  json += '{';
  for (const auto& [key, value] : strings) {
    json += json.back() == '{' ? "" : ",";
    AppendString(json, key);
    json += ':';
    AppendString(json, value);
  }
  json += '}';
}

absl::Status CheckTensor(const TensorEntry& tensor) {
  const bool has_type =
      tensor.torch_type.empty() && tensor.dtype != DType::kC32 && tensor.dtype != DType::kC128;
  if (has_type && tensor.name != kMetadataKey) {
    return absl::OkStatus();
  }
  return Error(
      Reason::kUnsupported,
      absl::StrCat("tensor ", Quoted(tensor.name), " can't be in a safetensors file: the format ",
                   has_type ? "uses its name for metadata" : "has no type for ",
                   has_type                    ? ""
                   : tensor.torch_type.empty() ? DTypeName(tensor.dtype)
                                               : absl::string_view(tensor.torch_type)),
      "write a tensorizer file, or leave it out");
}

}  // namespace

absl::StatusOr<SafetensorsPlan> PlanSafetensors(
    const std::vector<TensorEntry>& tensors, const std::map<std::string, std::string>& metadata) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::make_tuple(DTypeAlignment(tensors[b].dtype), absl::string_view(tensors[a].name)) <
           std::make_tuple(DTypeAlignment(tensors[a].dtype), absl::string_view(tensors[b].name));
  });
  SafetensorsPlan plan;
  plan.places.resize(tensors.size());
  std::string json = "{";
  if (!metadata.empty()) {
    AppendString(json, kMetadataKey);
    json += ':';
    AppendStrings(json, metadata);
  }
  uint64_t at = 0;
  for (const size_t i : order) {
    const TensorEntry& tensor = tensors[i];
    RETURN_IF_ERROR(CheckTensor(tensor));
    json += json.size() == 1 ? "" : ",";
    AppendString(json, tensor.name);
    absl::StrAppend(&json, ":{\"dtype\":\"", DTypeName(tensor.dtype), "\",\"shape\":[",
                    absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", at, ",",
                    at + tensor.nbytes, "]}");
    plan.places[i] = {at, at + tensor.nbytes};
    at += tensor.nbytes;
  }
  json += '}';
  json.resize(AlignUp(json.size(), kHeaderAlignment), ' ');
  if (json.size() > kMaxSafetensorsHeaderBytes) {
    return Error(Reason::kUnsupported,
                 absl::StrCat("a header of ", json.size(), " bytes; readers take at most ",
                              kMaxSafetensorsHeaderBytes),
                 "write several files (--shard-size)");
  }
  PutUnsigned(plan.head, json.size(), kSafetensorsPrefixBytes);
  plan.head += json;
  for (ByteRange& place : plan.places) {
    place = {place.begin + plan.head.size(), place.end + plan.head.size()};
  }
  plan.file_bytes = at + plan.head.size();
  return plan;
}

std::string ShardIndexText(const std::map<std::string, std::string>& weight_map,
                           uint64_t total_bytes) {
  std::string json =
      absl::StrCat("{\"metadata\":{\"total_size\":", total_bytes, "},\"weight_map\":");
  AppendStrings(json, weight_map);
  return json + "}\n";
}

}  // namespace weightd::format
