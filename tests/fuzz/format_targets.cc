#include <simdjson.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/header.h"
#include "daemon/format/json_reader.h"
#include "daemon/format/safetensors.h"
#include "daemon/format/secret_key.h"
#include "daemon/format/shard_index.h"
#include "daemon/format/veturboio.h"
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
  if (absl::StartsWith(input, format::kVeturboioMagic)) {
    return;  // says that it wants a key
  }
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

void Veturboio(absl::string_view input) {
  std::string start = absl::StrCat(format::kVeturboioMagic, input);
  start.resize(format::kVeturboioHeaderBytes);
  const auto clear = format::ParseVeturboioHeader(start, "f");
  if (clear.ok()) {
    Require(clear->key_bytes == 16 || clear->key_bytes == 32, "a mode names a length");
    Require(clear->iv.empty() || clear->iv.size() == format::kCtrIvBytes, "an IV has 16 bytes");
  } else {
    RequireMalformed(clear.status());
  }
  const format::CtrKey key = {.key = format::SecretKey(std::string(16, 'k')),
                              .iv = std::string(format::kCtrIvBytes, '0')};
  uint64_t asked = 0;
  const auto header = format::ReadCtrHeader(
      "f", input.size(), 0, "",
      [&](ByteRange range) -> absl::StatusOr<std::string> {
        Require(range.begin == asked && range.begin <= range.end && range.end <= input.size(),
                "reads follow one another and stay in the file");
        asked = range.end;
        return std::string(input.substr(range.begin, range.size()));
      },
      key);
  if (!header.ok()) {
    Require(ReasonOf(header.status()) == Reason::kMalformedModel ||
                ReasonOf(header.status()) == Reason::kKeyRefused,
            "a refusal says that the key is another's, or the model malformed");
    return;
  }
  Require(header->header_bytes == asked, "a header is what was read");
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
