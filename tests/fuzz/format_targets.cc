#include <simdjson.h>

#include <string>

#include "absl/strings/match.h"
#include "common/dtype.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/format/header.h"
#include "daemon/format/json_reader.h"
#include "daemon/format/safetensors.h"
#include "daemon/format/shard_index.h"
#include "tests/fuzz/targets.h"

namespace weightd::fuzz {
namespace {

absl::Status ReadAll(absl::string_view text) {
  ASSIGN_OR_RETURN(format::JsonReader json, format::JsonReader::Open(text, "f", 0));
  RETURN_IF_ERROR(json.Skip());
  return json.Finish();
}

// Rules of ours that simdjson doesn't have.
bool IsStricter(absl::string_view message) {
  return absl::StrContains(message, "nested deeper") ||
         absl::StrContains(message, "lone surrogate") ||
         absl::StrContains(message, "number out of range");
}

void RequireMalformed(const absl::Status& status) {
  Require(ReasonOf(status) == Reason::kMalformedModel,
          "a refusal says that the model is malformed");
}

}  // namespace

void Json(absl::string_view input) {
  static simdjson::dom::parser* const parser = new simdjson::dom::parser();
  const absl::Status ours = ReadAll(input);
  const simdjson::error_code theirs =
      parser->parse(simdjson::padded_string(std::string_view(input.data(), input.size()))).error();
  if (ours.ok()) {
    // simdjson refuses integers beyond 64 bits.
    Require(theirs == simdjson::SUCCESS || theirs == simdjson::NUMBER_ERROR,
            "what is accepted is JSON for simdjson");
  } else {
    RequireMalformed(ours);
    Require(theirs != simdjson::SUCCESS || IsStricter(ours.message()),
            "JSON for simdjson is refused only by a stricter rule");
  }
}

void Safetensors(absl::string_view input) {
  const auto header =
      format::ReadHeader("f", input.size(), [&](ByteRange range) -> absl::StatusOr<std::string> {
        Require(range.begin <= range.end && range.end <= input.size(), "reads stay in the file");
        return std::string(input.substr(range.begin, range.size()));
      });
  if (!header.ok()) {
    RequireMalformed(header.status());
    return;
  }
  if (header->tensorizer.has_value()) {
    return;
  }
  uint64_t covered = 0;
  for (const format::TensorEntry& tensor : header->tensors) {
    const auto bytes = TensorBytes(tensor.dtype, tensor.shape);
    Require(bytes.has_value() && *bytes == tensor.bytes.size(), "a range has its tensor's size");
    Require(covered == 0 || tensor.bytes.begin == covered, "tensors lie side by side");
    covered = tensor.bytes.end;
  }
  Require(header->tensors.empty() || covered == input.size(), "the last tensor ends the file");
}

void ShardIndex(absl::string_view input) {
  const auto index = format::ParseShardIndex(input, "i");
  if (!index.ok()) {
    RequireMalformed(index.status());
    return;
  }
  const auto folder = Uri::Parse("file:///models/m/");
  for (const std::string& file : index->files) {
    const auto child = folder->Child(file);
    Require(child.ok() && absl::StartsWith(child->DecodedPath(), "/models/m/"),
            "files lie in the model's folder");
  }
}

}  // namespace weightd::fuzz
