#include "daemon/format/tensorizer.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/format/field_reader.h"
#include "daemon/format/malformed.h"
#include "daemon/format/tensorizer_fields.h"
#include "daemon/format/tensorizer_path.h"

namespace weightd::format {
namespace {

constexpr uint64_t kNewestVersion = 5;
// Tells in every record how its tensor is encrypted. Version 3 does so without this bit, and in
// older files it means nothing.
constexpr unsigned char kEncryptedFlag = 1;
// Every entry has a tag.
constexpr unsigned char kTaggedFlag = 2;
constexpr uint64_t kNarrowTag = 1;
constexpr uint64_t kWideTag = 5;
constexpr uint64_t kTagBytes = 4;
// A name of one byte, a dtype of none, a scalar.
constexpr uint64_t kLeastEntryBytes = 30;

// Beside what an entry of the metadata says too: size, module, two lengths of hashes, size of the
// data; and an empty block of what it says of encryption.
constexpr uint64_t kLeastRecordBytes = 8 + 2 + 2 + 1 + 8;
constexpr uint64_t kLeastEncryptionBytes = 8 + 2;

// A record's header holds names, hashes and, of an encrypted tensor, a MAC for each KiB.
uint64_t MostRecordBytes(uint64_t data_bytes) {
  return (200 << 10) + 16 * (data_bytes / 1024 + (data_bytes % 1024 != 0 ? 1 : 0));
}

// A tensor as its entry declares it, before it is held against the others.
struct Declared {
  TensorEntry entry;
  // Of its entry in the file.
  uint64_t offset = 0;
};

absl::StatusOr<uint64_t> ReadVersion(FieldReader& reader) {
  const uint64_t offset = reader.offset();
  ASSIGN_OR_RETURN(const uint64_t version, reader.ReadUnsigned(4, "the data version"));
  if (version < 1 || version > kNewestVersion) {
    return reader.ErrorAt(offset, absl::StrCat("data version ", version, " of tensorizer; 1 to ",
                                               kNewestVersion, " are known"));
  }
  return version;
}

absl::Status ReadFlags(FieldReader& reader, TensorizerPreamble& preamble) {
  const uint64_t offset = reader.offset();
  ASSIGN_OR_RETURN(const absl::string_view flags, reader.ReadBytes(32, "the feature flags"));
  const uint32_t version = preamble.traits.version;
  const unsigned char known = kEncryptedFlag | (version >= 5 ? kTaggedFlag : 0);
  for (size_t i = 0; i < flags.size(); ++i) {
    const unsigned char unknown = static_cast<unsigned char>(flags[i]) & ~(i == 0 ? known : 0);
    if (unknown != 0) {
      return reader.ErrorAt(offset,
                            absl::StrCat("feature ", i * 8 + __builtin_ctz(unknown),
                                         " of tensorizer is not known in data version ", version));
    }
  }
  preamble.traits.encrypted = version == 3 || (version >= 4 && (flags[0] & kEncryptedFlag) != 0);
  preamble.tagged = (flags[0] & kTaggedFlag) != 0;
  return absl::OkStatus();
}

// What may be read and counted on the word of the preamble.
absl::Status CheckSizes(const FieldReader& reader, const TensorizerPreamble& preamble,
                        uint64_t length, uint64_t file_size) {
  const uint64_t at_length = kTensorizerPreambleBytes - 8;
  if (length > file_size - kTensorizerPreambleBytes) {
    return reader.ErrorAt(at_length, absl::StrCat("metadata of ", length, " bytes in a file of ",
                                                  file_size, " bytes"));
  }
  if (length > kMaxTensorizerMetadataBytes) {
    return reader.ErrorAt(at_length, absl::StrCat("metadata of ", length, " bytes; at most ",
                                                  kMaxTensorizerMetadataBytes, " are allowed"));
  }
  const uint64_t at_count = at_length - 8;
  if (preamble.tensor_count == 0) {
    return reader.ErrorAt(at_count, "the file holds no tensors");
  }
  const uint64_t entry = kLeastEntryBytes + (preamble.tagged ? kTagBytes : 0);
  if (preamble.tensor_count > length / entry) {
    return reader.ErrorAt(at_count, absl::StrCat(preamble.tensor_count, " tensors in metadata of ",
                                                 length, " bytes"));
  }
  return absl::OkStatus();
}

// Where a record lies, as its entry says.
struct Offsets {
  uint64_t header = 0;
  uint64_t data = 0;
  uint64_t data_bytes = 0;
};

absl::StatusOr<Offsets> ReadOffsets(FieldReader& reader) {
  Offsets offsets;
  ASSIGN_OR_RETURN(offsets.header, reader.ReadUnsigned(8, "a record's offset"));
  ASSIGN_OR_RETURN(offsets.data, reader.ReadUnsigned(8, "the offset of a tensor's bytes"));
  ASSIGN_OR_RETURN(offsets.data_bytes, reader.ReadUnsigned(8, "the number of a tensor's bytes"));
  return offsets;
}

absl::StatusOr<bool> ReadTag(FieldReader& reader) {
  const uint64_t offset = reader.offset();
  ASSIGN_OR_RETURN(const uint64_t tag, reader.ReadUnsigned(kTagBytes, "an entry's tag"));
  if (tag != kNarrowTag && tag != kWideTag) {
    return reader.ErrorAt(offset, absl::StrCat("unknown tag ", tag, " of an entry"));
  }
  return tag == kWideTag;
}

class MetadataParser {
 public:
  MetadataParser(const TensorizerPreamble& preamble, uint64_t file_size, FieldReader reader)
      : preamble_(preamble), file_size_(file_size), reader_(reader) {}

  absl::StatusOr<FileHeader> Parse() && {
    for (uint64_t i = 0; i < preamble_.tensor_count; ++i) {
      RETURN_IF_ERROR(ReadEntry());
    }
    RETURN_IF_ERROR(CheckTensorPaths(reader_.file_name(), paths_));
    RETURN_IF_ERROR(CheckRecordsApart());
    FileHeader header;
    header.tensorizer = preamble_.traits;
    header.tensors.reserve(tensors_.size());
    for (Declared& tensor : tensors_) {
      header.tensors.push_back(std::move(tensor.entry));
    }
    return header;
  }

 private:
  absl::Status ReadEntry() {
    Declared& tensor = tensors_.emplace_back();
    tensor.offset = reader_.offset();
    RecordPlace& record = tensor.entry.record.emplace();
    if (preamble_.tagged) {
      ASSIGN_OR_RETURN(record.wide_shape, ReadTag(reader_));
    }
    const uint64_t begin = reader_.offset();
    ASSIGN_OR_RETURN(const absl::string_view name, ReadTensorName(reader_));
    ASSIGN_OR_RETURN(record.kind, ReadTensorKind(reader_));
    ASSIGN_OR_RETURN(TensorPath path,
                     ParseTensorPath(reader_.file_name(), name, record.kind, begin + 2));
    ASSIGN_OR_RETURN(TypeAndShape type, ReadTypeAndShape(reader_, record.wide_shape));
    const uint64_t described = reader_.offset() - begin;
    ASSIGN_OR_RETURN(const Offsets offsets, ReadOffsets(reader_));
    tensor.entry.name = std::string(name);
    tensor.entry.dtype = type.dtype;
    tensor.entry.torch_type = std::move(type.torch_type);
    tensor.entry.shape = std::move(type.shape);
    std::string broken = PlaceRecord(tensor.entry, offsets, described);
    if (broken.empty()) {
      broken = SizeTensor(tensor.entry);
    }
    if (!broken.empty()) {
      return reader_.ErrorAt(tensor.offset, absl::StrCat("tensor ", Quoted(name), ": ", broken));
    }
    paths_.push_back(std::move(path));
    return absl::OkStatus();
  }

  // Sets the ranges of the tensor's record; returns the rule that they break, empty if none.
  // `described` is how many bytes the entry takes to describe the tensor, as its record does too.
  std::string PlaceRecord(TensorEntry& tensor, const Offsets& offsets, uint64_t described) const {
    if (offsets.header < preamble_.metadata.end) {
      return absl::StrCat("its record begins at ", offsets.header,
                          ", before the end of the metadata, ", preamble_.metadata.end);
    }
    if (offsets.data > file_size_ || offsets.data_bytes > file_size_ - offsets.data) {
      return absl::StrCat(offsets.data_bytes, " bytes at ", offsets.data, " in a file of ",
                          file_size_, " bytes");
    }
    const uint64_t least =
        kLeastRecordBytes + described + (preamble_.traits.encrypted ? kLeastEncryptionBytes : 0);
    if (offsets.header > offsets.data || offsets.data - offsets.header < least) {
      return absl::StrCat("no record's header of ", least, " bytes or more fits between ",
                          offsets.header, " and ", offsets.data);
    }
    tensor.record->header = {offsets.header, offsets.data};
    tensor.bytes = {offsets.data, offsets.data + offsets.data_bytes};
    const uint64_t most = MostRecordBytes(offsets.data_bytes);
    if (tensor.record->header.size() > most) {
      return absl::StrCat("a record's header of ", tensor.record->header.size(), " bytes; at most ",
                          most, " are allowed for its data");
    }
    return "";
  }

  // Sets `nbytes`; returns the rule that they break, empty if none.
  std::string SizeTensor(TensorEntry& tensor) {
    const std::optional<uint64_t> nbytes = TensorBytes(tensor.dtype, tensor.shape);
    if (!nbytes.has_value()) {
      return "dtype and shape give no number of bytes below 2^64";
    }
    tensor.nbytes = *nbytes;
    if (tensor.nbytes == tensor.bytes.size()) {
      return "";
    }
    // Since version 4 tensors without bytes (torch's device "meta") stand for zeros.
    if (!tensor.bytes.empty() || preamble_.traits.version < 4) {
      return absl::StrCat("dtype and shape need ", *nbytes, " bytes, it has ", tensor.bytes.size());
    }
    if (tensor.nbytes > kMaxUnstoredBytes - unstored_bytes_) {
      return absl::StrCat("zeros that are not stored come to more than ", kMaxUnstoredBytes,
                          " bytes");
    }
    unstored_bytes_ += tensor.nbytes;
    return "";
  }

  // Also brings the tensors into their bytes' order: a record's header is never empty.
  absl::Status CheckRecordsApart() {
    std::sort(tensors_.begin(), tensors_.end(), [](const Declared& a, const Declared& b) {
      return a.entry.record->header.begin < b.entry.record->header.begin;
    });
    for (size_t i = 1; i < tensors_.size(); ++i) {
      const TensorEntry& before = tensors_[i - 1].entry;
      const TensorEntry& tensor = tensors_[i].entry;
      if (before.bytes.end > tensor.record->header.begin) {
        return reader_.ErrorAt(
            tensors_[i].offset,
            absl::StrCat("tensor ", Quoted(tensor.name), ": its record begins at ",
                         tensor.record->header.begin, ", before that of tensor ",
                         Quoted(before.name), " ends, ", before.bytes.end));
      }
    }
    return absl::OkStatus();
  }

  const TensorizerPreamble& preamble_;
  const uint64_t file_size_;
  FieldReader reader_;
  std::vector<Declared> tensors_;
  std::vector<TensorPath> paths_;
  uint64_t unstored_bytes_ = 0;
};

}  // namespace

absl::StatusOr<TensorizerPreamble> ParseTensorizerPreamble(absl::string_view bytes,
                                                           uint64_t file_size,
                                                           absl::string_view file_name) {
  FieldReader reader(bytes, file_name, 0);
  TensorizerPreamble preamble;
  ASSIGN_OR_RETURN(const absl::string_view magic,
                   reader.ReadBytes(kTensorizerMagic.size(), "tensorizer's magic number"));
  if (magic != kTensorizerMagic) {
    return reader.ErrorAt(0, "not tensorizer's magic number");
  }
  ASSIGN_OR_RETURN(preamble.traits.version, ReadVersion(reader));
  RETURN_IF_ERROR(ReadFlags(reader, preamble));
  // Of the file or of its tensors, as the writer's release had it, and bytes that have no meaning.
  RETURN_IF_ERROR(reader.ReadBytes(16, "the preamble").status());
  ASSIGN_OR_RETURN(preamble.tensor_count, reader.ReadUnsigned(8, "the number of tensors"));
  ASSIGN_OR_RETURN(const uint64_t length, reader.ReadUnsigned(8, "the metadata's length"));
  RETURN_IF_ERROR(CheckSizes(reader, preamble, length, file_size));
  preamble.metadata = {kTensorizerPreambleBytes, kTensorizerPreambleBytes + length};
  return preamble;
}

absl::StatusOr<FileHeader> ParseTensorizerMetadata(absl::string_view bytes,
                                                   const TensorizerPreamble& preamble,
                                                   uint64_t file_size,
                                                   absl::string_view file_name) {
  const FieldReader reader(bytes, file_name, preamble.metadata.begin);
  absl::StatusOr<FileHeader> header = MetadataParser(preamble, file_size, reader).Parse();
  if (!header.ok() && preamble.traits.version == 5 && !preamble.tagged) {
    return Annotate(header.status(),
                    "data version 5 without tags, as tensorizer's unreleased 3.0 has it too");
  }
  return header;
}

}  // namespace weightd::format
