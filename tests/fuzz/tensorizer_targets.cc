#include <string>

#include "absl/strings/match.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/format/header.h"
#include "daemon/format/secret_key.h"
#include "daemon/format/secretbox.h"
#include "daemon/format/tensorizer_record.h"
#include "daemon/format/veturboio.h"
#include "tests/fuzz/targets.h"

namespace weightd::fuzz {
namespace {

void RequireMalformed(const absl::Status& status) {
  Require(ReasonOf(status) == Reason::kMalformedModel,
          "a refusal says that the model is malformed");
}

// `end` is where what stands before it in the file ends.
void RequirePlaced(const format::TensorEntry& tensor, uint64_t end, uint64_t file_size) {
  Require(tensor.record.has_value() && tensor.record->header.begin >= end &&
              tensor.record->header.begin < tensor.record->header.end &&
              tensor.record->header.end == tensor.bytes.begin &&
              tensor.bytes.begin <= tensor.bytes.end && tensor.bytes.end <= file_size,
          "records lie apart, in order and in the file");
  const auto bytes = TensorBytes(tensor.dtype, tensor.shape);
  Require(bytes.has_value() && *bytes == tensor.nbytes, "a tensor has the size of its shape");
  Require(tensor.bytes.empty() || tensor.bytes.size() == tensor.nbytes,
          "what is stored is all of a tensor");
  Require(!tensor.name.empty(), "a tensor has a name");
}

void OpenBoxes(const format::SealedBoxes& boxes, std::string data) {
  // That of a file in the corpus.
  std::string key;
  for (char byte = 0; byte < 32; ++byte) {
    key += byte;
  }
  const format::SecretKey secret(key);
  const uint64_t count = format::BoxCount(boxes, data.size());
  Require(count == boxes.macs.size() / 16, "every box has a MAC");
  for (uint64_t i = 0; i < count; ++i) {
    const absl::Span<std::byte> all(reinterpret_cast<std::byte*>(data.data()), data.size());
    format::OpenBox(secret, boxes, i, all.subspan(i * boxes.box_bytes, boxes.box_bytes));
  }
}

void ReadRecord(absl::string_view input, const format::FileHeader& header,
                const format::TensorEntry& tensor) {
  const ByteRange range = tensor.record->header;
  const auto record = format::ParseTensorRecord("f", input.substr(range.begin, range.size()),
                                                tensor, *header.tensorizer);
  if (!record.ok()) {
    RequireMalformed(record.status());
    return;
  }
  Require(record->hashed_header.size() <= range.size(), "what is hashed comes from the header");
  Require(record->boxes.has_value() == (header.tensorizer->encrypted && !tensor.bytes.empty()),
          "in an encrypted file all bytes are encrypted, in others none");
  if (record->boxes.has_value()) {
    OpenBoxes(*record->boxes, std::string(input.substr(tensor.bytes.begin, tensor.bytes.size())));
  }
}

}  // namespace

void Tensorizer(absl::string_view input) {
  if (absl::StartsWith(input, format::kVeturboioMagic)) {
    return;  // says that it wants a key
  }
  uint64_t asked = 0;
  const auto header =
      format::ReadHeader("f", input.size(), [&](ByteRange range) -> absl::StatusOr<std::string> {
        Require(range.begin == asked && range.begin <= range.end && range.end <= input.size(),
                "reads follow one another and stay in the file");
        asked = range.end;
        return std::string(input.substr(range.begin, range.size()));
      });
  if (!header.ok()) {
    RequireMalformed(header.status());
    return;
  }
  if (!header->tensorizer.has_value()) {
    return;
  }
  Require(!header->tensors.empty(), "the file holds tensors");
  uint64_t end = asked;
  for (const format::TensorEntry& tensor : header->tensors) {
    RequirePlaced(tensor, end, input.size());
    end = tensor.bytes.end;
    ReadRecord(input, *header, tensor);
  }
}

}  // namespace weightd::fuzz
