#include "daemon/format/tensorizer_record.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/field_reader.h"
#include "daemon/format/malformed.h"
#include "daemon/format/tensorizer_encryption.h"
#include "daemon/format/tensorizer_fields.h"

namespace weightd::format {
namespace {

constexpr uint64_t kCrc32Bytes = 4;
constexpr uint64_t kSha256Bytes = 32;
// Ends the header.
constexpr uint64_t kDataLengthBytes = 8;

absl::Status CheckSize(FieldReader& reader, uint64_t expected) {
  const uint64_t offset = reader.offset();
  ASSIGN_OR_RETURN(const uint64_t size, reader.ReadUnsigned(8, "the record's header"));
  if (size != expected) {
    return reader.ErrorAt(offset, absl::StrCat("the record's header has ", size,
                                               " bytes, the metadata says ", expected));
  }
  return absl::OkStatus();
}

// Reads what the metadata says too: it must say the same.
absl::Status CheckDescription(FieldReader& reader, const TensorEntry& tensor) {
  const auto differs = [&](uint64_t offset, absl::string_view what) {
    return reader.ErrorAt(offset, absl::StrCat(what, " in the record is not that in the metadata"));
  };
  uint64_t offset = reader.offset();
  ASSIGN_OR_RETURN(const TensorKind kind, ReadTensorKind(reader));
  if (kind != tensor.record->kind) {
    return differs(offset, "the tensor's kind");
  }
  offset = reader.offset();
  ASSIGN_OR_RETURN(const absl::string_view name, ReadTensorName(reader));
  if (name != tensor.name) {
    return differs(offset, "the name");
  }
  offset = reader.offset();
  ASSIGN_OR_RETURN(const TypeAndShape type, ReadTypeAndShape(reader, tensor.record->wide_shape));
  if (type.dtype != tensor.dtype || type.torch_type != tensor.torch_type) {
    return differs(offset, "the dtype");
  }
  if (type.shape != tensor.shape) {
    return differs(offset, "the shape");
  }
  return absl::OkStatus();
}

absl::StatusOr<RecordHash> ReadHash(FieldReader& section) {
  const uint64_t offset = section.offset();
  ASSIGN_OR_RETURN(const uint64_t kind, section.ReadUnsigned(1, "a hash's kind"));
  if (kind > static_cast<uint64_t>(RecordHash::Kind::kSha256)) {
    return section.ErrorAt(offset, absl::StrCat("unknown kind of hash ", kind));
  }
  RecordHash hash{static_cast<RecordHash::Kind>(kind), {}};
  const uint64_t expected = hash.kind == RecordHash::Kind::kCrc32 ? kCrc32Bytes : kSha256Bytes;
  ASSIGN_OR_RETURN(const uint64_t length, section.ReadUnsigned(1, "a hash's length"));
  if (length != expected) {
    return section.ErrorAt(offset,
                           absl::StrCat("a hash of ", length, " bytes; its kind has ", expected));
  }
  ASSIGN_OR_RETURN(const absl::string_view value, section.ReadBytes(length, "a hash"));
  hash.value = std::string(value);
  return hash;
}

// Reads the section of hashes and blots their values out in `hashed`, which is a copy of the header
// that begins at `begin` in the file.
absl::StatusOr<std::vector<RecordHash>> ReadHashes(FieldReader& reader, uint64_t begin,
                                                   std::string& hashed) {
  ASSIGN_OR_RETURN(const uint64_t length, reader.ReadUnsigned(2, "the length of the hashes"));
  ASSIGN_OR_RETURN(FieldReader section, reader.ReadSection(length, "the hashes"));
  ASSIGN_OR_RETURN(const uint64_t count, section.ReadUnsigned(1, "the number of hashes"));
  std::vector<RecordHash> hashes;
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(RecordHash hash, ReadHash(section));
    const uint64_t size = hash.value.size();
    hashed.replace(section.offset() - size - begin, size, size, '\0');
    hashes.push_back(std::move(hash));
  }
  if (section.left() > 0) {
    return section.ErrorAt(section.offset(), "the hashes are shorter than their section");
  }
  return hashes;
}

absl::Status CheckDataLength(FieldReader& reader, const TensorEntry& tensor) {
  const uint64_t offset = reader.offset();
  if (reader.left() != kDataLengthBytes) {
    return reader.ErrorAt(offset, absl::StrCat("the record's header has ", reader.left(),
                                               " bytes left for the length of the data, which "
                                               "takes ",
                                               kDataLengthBytes));
  }
  // Negative ones were kept for compression, which never came: they are no number of bytes here.
  ASSIGN_OR_RETURN(const uint64_t length, reader.ReadUnsigned(8, "the length of the data"));
  if (length != tensor.bytes.size()) {
    return reader.ErrorAt(
        offset, absl::StrCat("the record has ", length, " bytes of data, the metadata says ",
                             tensor.bytes.size()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TensorRecord> ParseTensorRecord(absl::string_view file_name, absl::string_view bytes,
                                               const TensorEntry& tensor,
                                               const TensorizerTraits& traits) {
  const ByteRange header = tensor.record->header;
  const std::string subject = absl::StrCat("tensor ", Quoted(tensor.name), ": ");
  FieldReader reader(bytes, file_name, header.begin, subject);
  RETURN_IF_ERROR(CheckSize(reader, header.size()));
  ASSIGN_OR_RETURN(const uint64_t module, reader.ReadUnsigned(2, "a module's number"));
  RETURN_IF_ERROR(CheckDescription(reader, tensor));
  TensorRecord record;
  record.module = static_cast<uint16_t>(module);
  record.hashed_header = std::string(bytes);
  ASSIGN_OR_RETURN(record.hashes, ReadHashes(reader, header.begin, record.hashed_header));
  if (traits.encrypted) {
    const uint64_t begin = reader.offset() - header.begin;
    ASSIGN_OR_RETURN(const uint64_t length, reader.ReadUnsigned(8, "the length of the encryption"));
    ASSIGN_OR_RETURN(const FieldReader block, reader.ReadSection(length, "the encryption"));
    ASSIGN_OR_RETURN(Encryption encryption, ParseEncryption(block, tensor.bytes.size()));
    record.password = std::move(encryption.password);
    record.boxes = std::move(encryption.boxes);
    record.hashed_header.erase(begin, reader.offset() - header.begin - begin);
  }
  RETURN_IF_ERROR(CheckDataLength(reader, tensor));
  return record;
}

}  // namespace weightd::format
