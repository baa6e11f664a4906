#include "daemon/format/safetensors.h"

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/format/json_reader.h"
#include "daemon/format/malformed.h"

namespace weightd::format {
namespace {

// An entry of the header before its offsets are held against the file.
struct Declared {
  TensorEntry entry;
  // Where its name lies in the file.
  uint64_t offset = 0;
};

absl::StatusOr<std::vector<uint64_t>> ReadShape(JsonReader& json) {
  std::vector<uint64_t> shape;
  RETURN_IF_ERROR(json.ReadArray([&]() -> absl::Status {
    ASSIGN_OR_RETURN(const uint64_t extent, json.ReadUnsigned());
    shape.push_back(extent);
    return absl::OkStatus();
  }));
  shape.shrink_to_fit();
  return shape;
}

absl::StatusOr<DType> ReadDType(JsonReader& json) {
  ASSIGN_OR_RETURN(const absl::string_view name, json.ReadString());
  const std::optional<DType> dtype = DTypeFromName(name);
  if (!dtype.has_value() || dtype == DType::kC32 || dtype == DType::kC128) {
    return json.ErrorAt(json.key_offset(), absl::StrCat("unknown dtype ", Quoted(name)));
  }
  return *dtype;
}

absl::StatusOr<ByteRange> ReadOffsets(JsonReader& json) {
  uint64_t values[2] = {0, 0};
  size_t count = 0;
  RETURN_IF_ERROR(json.ReadArray([&]() -> absl::Status {
    ASSIGN_OR_RETURN(const uint64_t value, json.ReadUnsigned());
    if (count < 2) {
      values[count] = value;
    }
    ++count;
    return absl::OkStatus();
  }));
  if (count != 2) {
    return json.ErrorAt(json.key_offset(), "data_offsets must be [begin, end]");
  }
  return ByteRange{values[0], values[1]};
}

// Reads a tensor's object; `bytes` are still relative to the data.
absl::Status ReadTensor(JsonReader& json, Declared& tensor) {
  std::optional<DType> dtype;
  std::optional<std::vector<uint64_t>> shape;
  std::optional<ByteRange> bytes;
  RETURN_IF_ERROR(json.ReadObject([&](absl::string_view key) -> absl::Status {
    const uint64_t key_offset = json.key_offset();
    bool repeated = false;
    if (key == "dtype") {
      repeated = dtype.has_value();
      ASSIGN_OR_RETURN(dtype, ReadDType(json));
    } else if (key == "shape") {
      repeated = shape.has_value();
      ASSIGN_OR_RETURN(shape, ReadShape(json));
    } else if (key == "data_offsets") {
      repeated = bytes.has_value();
      ASSIGN_OR_RETURN(bytes, ReadOffsets(json));
    } else {
      return json.Skip();
    }
    return repeated ? json.ErrorAt(key_offset, "a field stands twice in one tensor")
                    : absl::OkStatus();
  }));
  if (!dtype.has_value() || !shape.has_value() || !bytes.has_value()) {
    return json.ErrorAt(tensor.offset,
                        absl::StrCat("tensor ", Quoted(tensor.entry.name), " has no ",
                                     !dtype.has_value()   ? "dtype"
                                     : !shape.has_value() ? "shape"
                                                          : "data_offsets"));
  }
  tensor.entry.dtype = *dtype;
  tensor.entry.shape = *std::move(shape);
  tensor.entry.bytes = *bytes;
  return absl::OkStatus();
}

absl::Status ReadMetadata(JsonReader& json, std::map<std::string, std::string>& metadata) {
  if (json.TakeNull()) {
    return absl::OkStatus();
  }
  return json.ReadObject([&](absl::string_view key) -> absl::Status {
    const uint64_t key_offset = json.key_offset();
    std::string name(key);
    ASSIGN_OR_RETURN(const absl::string_view value, json.ReadString());
    const auto [it, inserted] = metadata.emplace(std::move(name), std::string(value));
    if (!inserted) {
      return json.ErrorAt(key_offset,
                          absl::StrCat("metadata key ", Quoted(it->first), " stands twice"));
    }
    return absl::OkStatus();
  });
}

absl::Status CheckNamesUnique(const std::vector<Declared>& tensors, const JsonReader& json) {
  absl::flat_hash_set<absl::string_view> names;
  names.reserve(tensors.size());
  for (const Declared& tensor : tensors) {
    if (!names.insert(tensor.entry.name).second) {
      return json.ErrorAt(tensor.offset,
                          absl::StrCat("tensor ", Quoted(tensor.entry.name), " stands twice"));
    }
  }
  return absl::OkStatus();
}

// The rule that `bytes` of `tensor` breaks, given that the data before `expected_begin` is taken;
// empty if none.
std::string BrokenRule(const TensorEntry& tensor, uint64_t expected_begin, uint64_t data_bytes) {
  if (tensor.bytes.begin > tensor.bytes.end) {
    return "it ends before it begins";
  }
  if (tensor.bytes.begin != expected_begin) {
    return absl::StrCat("its data begins at ", tensor.bytes.begin,
                        ", not where the one before ends, ", expected_begin);
  }
  if (tensor.bytes.end > data_bytes) {
    return absl::StrCat("its data ends at ", tensor.bytes.end, ", the file's at ", data_bytes);
  }
  const std::optional<uint64_t> bytes = TensorBytes(tensor.dtype, tensor.shape);
  if (!bytes.has_value()) {
    return "dtype and shape give no whole number of bytes below 2^64";
  }
  if (tensor.bytes.size() != *bytes) {
    return absl::StrCat("dtype and shape need ", *bytes, " bytes, data_offsets hold ",
                        tensor.bytes.size());
  }
  return "";
}

// Checks that the tensors cover the data exactly, and makes their ranges the file's.
absl::Status PlaceTensors(std::vector<Declared>& tensors, ByteRange data, const JsonReader& json) {
  std::sort(tensors.begin(), tensors.end(), [](const Declared& a, const Declared& b) {
    return std::tie(a.entry.bytes.begin, a.entry.bytes.end, a.entry.name) <
           std::tie(b.entry.bytes.begin, b.entry.bytes.end, b.entry.name);
  });
  uint64_t end = 0;
  for (Declared& tensor : tensors) {
    const std::string broken = BrokenRule(tensor.entry, end, data.size());
    if (!broken.empty()) {
      return json.ErrorAt(tensor.offset,
                          absl::StrCat("tensor ", Quoted(tensor.entry.name), ": ", broken));
    }
    end = tensor.entry.bytes.end;
    tensor.entry.nbytes = tensor.entry.bytes.size();
    tensor.entry.bytes.begin += data.begin;
    tensor.entry.bytes.end += data.begin;
  }
  if (end != data.size()) {
    return json.ErrorAt(data.begin + end, "data that belongs to no tensor");
  }
  return absl::OkStatus();
}

absl::Status Malformed(absl::string_view file_name, absl::string_view rule) {
  return Error(Reason::kMalformedModel, absl::StrCat(file_name, ": byte 0: ", rule),
               "is it a safetensors file, and whole?");
}

}  // namespace

absl::StatusOr<ByteRange> SafetensorsHeaderRange(absl::string_view prefix, uint64_t file_size,
                                                 absl::string_view file_name) {
  if (prefix.size() < kSafetensorsPrefixBytes || file_size < kSafetensorsPrefixBytes) {
    return Malformed(file_name, absl::StrCat("a file of ", file_size,
                                             " bytes is too short for the header's length"));
  }
  uint64_t length = 0;
  for (size_t i = kSafetensorsPrefixBytes; i-- > 0;) {
    length = length << 8 | static_cast<unsigned char>(prefix[i]);
  }
  if (length > kMaxSafetensorsHeaderBytes) {
    return Malformed(file_name, absl::StrCat("a header of ", length, " bytes; at most ",
                                             kMaxSafetensorsHeaderBytes, " are allowed"));
  }
  if (length > file_size - kSafetensorsPrefixBytes) {
    return Malformed(file_name, absl::StrCat("a header of ", length, " bytes in a file of ",
                                             file_size, " bytes"));
  }
  return ByteRange{kSafetensorsPrefixBytes, kSafetensorsPrefixBytes + length};
}

absl::StatusOr<FileHeader> ParseSafetensorsHeader(absl::string_view json_text, uint64_t file_size,
                                                  absl::string_view file_name) {
  const ByteRange data = {kSafetensorsPrefixBytes + json_text.size(), file_size};
  if (data.begin > data.end) {
    return Malformed(file_name, "the header is longer than the file");
  }
  ASSIGN_OR_RETURN(JsonReader json,
                   JsonReader::Open(json_text, file_name, kSafetensorsPrefixBytes));
  FileHeader header;
  std::vector<Declared> tensors;
  bool has_metadata = false;
  RETURN_IF_ERROR(json.ReadObject([&](absl::string_view key) -> absl::Status {
    if (key != "__metadata__") {
      Declared& tensor = tensors.emplace_back();
      tensor.entry.name = std::string(key);
      tensor.offset = json.key_offset();
      return ReadTensor(json, tensor);
    }
    if (std::exchange(has_metadata, true)) {
      return json.ErrorAt(json.key_offset(), "__metadata__ stands twice");
    }
    return ReadMetadata(json, header.metadata);
  }));
  RETURN_IF_ERROR(json.Finish());
  RETURN_IF_ERROR(CheckNamesUnique(tensors, json));
  RETURN_IF_ERROR(PlaceTensors(tensors, data, json));
  header.tensors.reserve(tensors.size());
  for (Declared& tensor : tensors) {
    header.tensors.push_back(std::move(tensor.entry));
  }
  return header;
}

}  // namespace weightd::format
