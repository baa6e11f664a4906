#include "daemon/format/tensorizer_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/format/field_writer.h"
#include "daemon/format/malformed.h"
#include "daemon/format/tensorizer.h"
#include "daemon/format/tensorizer_dtype.h"
#include "daemon/format/tensorizer_path.h"

namespace weightd::format {
namespace {

constexpr uint64_t kUsualMetadataBytes = 256 << 10;
constexpr size_t kMostNameBytes = 0xFFFF;
constexpr size_t kMostRank = 0xFF;
// Three numbers in an entry: where header and data begin, how long the data is.
constexpr uint64_t kPlaceBytes = 24;
constexpr size_t kCrc32Bytes = 4;
constexpr size_t kSha256Bytes = 32;
constexpr size_t kMacBytes = 16;
constexpr size_t kNonceBytes = 24;
constexpr size_t kSaltBytes = 16;
constexpr uint64_t kArgon2id13 = 2;
// An entry's kind; a password's method, two numbers, algorithm and salt; a box's size, nonce and
// count of MACs.
constexpr uint64_t kPasswordEntryBytes = 2 + 2 + 8 + 8 + 4 + 2 + kSaltBytes;
constexpr uint64_t kBoxesEntryBytes = 2 + 8 + kNonceBytes + 8;
constexpr uint64_t kEntryLengthBytes = 8;
constexpr uint64_t kEncryptionHeadBytes = 8 + 2;

bool IsWide(const TensorEntry& tensor) {
  return std::any_of(tensor.shape.begin(), tensor.shape.end(),
                     [](uint64_t extent) { return extent > UINT32_MAX; });
}

bool IsUnstored(const TensorEntry& tensor) { return tensor.bytes.empty() && tensor.nbytes > 0; }

TensorKind KindOf(const TensorEntry& tensor) {
  return tensor.record.has_value() ? tensor.record->kind : TensorKind::kStateDict;
}

absl::Status CantSay(const TensorEntry& tensor, absl::string_view why) {
  return Error(
      Reason::kUnsupported,
      absl::StrCat("tensor ", Quoted(tensor.name), " can't be in a tensorizer file: ", why),
      "write safetensors, or leave it out");
}

// Names, type and shape, as metadata and record have them; the kind stands between.
absl::StatusOr<std::string> TypeAndShape(const TensorEntry& tensor) {
  const std::string type = TensorizerDTypeText(tensor.dtype, tensor.torch_type);
  if (type.empty() || type.size() > 0xFF) {
    return CantSay(tensor, absl::StrCat("no type of torch's is ", DTypeName(tensor.dtype), " ",
                                        tensor.torch_type));
  }
  if (tensor.shape.size() > kMostRank) {
    return CantSay(tensor, absl::StrCat(tensor.shape.size(), " extents"));
  }
  std::string text;
  PutText(text, type, 1);
  PutUnsigned(text, tensor.shape.size(), 1);
  for (const uint64_t extent : tensor.shape) {
    PutUnsigned(text, extent, IsWide(tensor) ? 8 : 4);
  }
  return text;
}

std::string NameAndKind(const TensorEntry& tensor) {
  std::string text;
  PutText(text, tensor.name, 2);
  PutUnsigned(text, static_cast<uint64_t>(KindOf(tensor)), 1);
  return text;
}

absl::Status CheckNames(const std::vector<TensorEntry>& tensors) {
  std::vector<TensorPath> paths;
  for (const TensorEntry& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > kMostNameBytes) {
      return CantSay(tensor, absl::StrCat("a name of ", tensor.name.size(), " bytes"));
    }
    absl::StatusOr<TensorPath> path =
        ParseTensorPath("the new file", tensor.name, KindOf(tensor), 0);
    if (!path.ok()) {
      return CantSay(tensor, path.status().message());
    }
    paths.push_back(*std::move(path));
  }
  const absl::Status nest = CheckTensorPaths("the new file", paths);
  return nest.ok() ? nest
                   : Error(Reason::kUnsupported,
                           absl::StrCat("the tensors' names make no nest: ", nest.message()),
                           "write safetensors, or leave one of them out");
}

uint32_t LeastVersion(const std::vector<TensorEntry>& tensors, bool encrypted) {
  if (std::any_of(tensors.begin(), tensors.end(), IsWide)) {
    return 5;
  }
  if (std::any_of(tensors.begin(), tensors.end(), IsUnstored)) {
    return 4;
  }
  const bool opaque = std::any_of(tensors.begin(), tensors.end(), [](const TensorEntry& tensor) {
    return TensorizerDTypeText(tensor.dtype, tensor.torch_type).find('\0') != std::string::npos;
  });
  return encrypted ? 3 : opaque ? 2 : 1;
}

}  // namespace

absl::StatusOr<TensorizerPlan> TensorizerPlan::Make(std::vector<TensorEntry> tensors,
                                                    const TensorizerWriting& writing) {
  if (tensors.empty()) {
    return Error(Reason::kUnsupported, "a tensorizer file without tensors",
                 "nothing would read it: write safetensors");
  }
  RETURN_IF_ERROR(CheckNames(tensors));
  TensorizerPlan plan;
  plan.writing_ = writing;
  plan.tensors_ = std::move(tensors);
  const uint32_t version = LeastVersion(plan.tensors_, writing.encrypted);
  const uint64_t tag_bytes = version == 5 ? 4 : 0;
  uint64_t entries = 0;
  for (const TensorEntry& tensor : plan.tensors_) {
    ASSIGN_OR_RETURN(std::string type, TypeAndShape(tensor));
    entries += tag_bytes + NameAndKind(tensor).size() + type.size() + kPlaceBytes;
    plan.types_.push_back(std::move(type));
  }
  const uint64_t needed = std::max(kUsualMetadataBytes, AlignUp(entries, kPageBytes));
  const uint64_t metadata_bytes =
      writing.metadata_bytes == 0 ? needed : std::max(writing.metadata_bytes, entries);
  if (metadata_bytes > kMaxTensorizerMetadataBytes) {
    return Error(Reason::kUnsupported,
                 absl::StrCat(metadata_bytes, " bytes of metadata; at most ",
                              kMaxTensorizerMetadataBytes, " are read"),
                 "write safetensors, or several files");
  }
  uint64_t at = kTensorizerPreambleBytes + metadata_bytes;
  for (size_t i = 0; i < plan.tensors_.size(); ++i) {
    TensorEntry& tensor = plan.tensors_[i];
    const uint64_t stored = tensor.bytes.size();
    const TensorKind kind = KindOf(tensor);
    tensor.bytes = {0, stored};  // for EncryptionBytes
    const uint64_t hashes = 2 + 1 + (plan.has_crc32(i) ? 2 + kCrc32Bytes : 0) + 2 + kSha256Bytes;
    const uint64_t header = 8 + 2 + NameAndKind(tensor).size() + plan.types_[i].size() + hashes +
                            plan.EncryptionBytes(i) + 8;
    tensor.record = RecordPlace{{at, at + header}, kind, IsWide(tensor)};
    tensor.bytes = {at + header, at + header + stored};
    at = tensor.bytes.end;
  }
  plan.file_bytes_ = at + kTensorizerTerminatorBytes;
  plan.MakeHead(version, metadata_bytes);
  return plan;
}

void TensorizerPlan::MakeHead(uint32_t version, uint64_t metadata_bytes) {
  uint64_t stored = 0;
  for (const TensorEntry& tensor : tensors_) {
    stored += tensor.bytes.size();
  }
  const bool tagged = version == 5;
  const uint64_t flags = (writing_.encrypted && version >= 4 ? 1 : 0) + (tagged ? 2 : 0);
  head_ = std::string(kTensorizerMagic);
  PutUnsigned(head_, version, 4);
  PutUnsigned(head_, flags, 8);
  head_.append(24, '\0');
  PutUnsigned(head_, stored, 8);
  PutUnsigned(head_, 0, 8);
  PutUnsigned(head_, tensors_.size(), 8);
  PutUnsigned(head_, metadata_bytes, 8);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorEntry& tensor = tensors_[i];
    if (tagged) {
      PutUnsigned(head_, IsWide(tensor) ? 5 : 1, 4);
    }
    head_ += NameAndKind(tensor) + types_[i];
    PutUnsigned(head_, tensor.record->header.begin, 8);
    PutUnsigned(head_, tensor.bytes.begin, 8);
    PutUnsigned(head_, tensor.bytes.size(), 8);
  }
  head_.resize(kTensorizerPreambleBytes + metadata_bytes, '\0');
}

bool TensorizerPlan::boxed(size_t tensor) const {
  return writing_.encrypted && !tensors_[tensor].bytes.empty();
}

uint64_t TensorizerPlan::EncryptionBytes(size_t tensor) const {
  if (!writing_.encrypted) {
    return 0;
  }
  if (!boxed(tensor)) {
    return kEncryptionHeadBytes;
  }
  const uint64_t boxes =
      AlignUp(tensors_[tensor].bytes.size(), writing_.box_bytes) / writing_.box_bytes;
  return kEncryptionHeadBytes + (writing_.password ? kEntryLengthBytes + kPasswordEntryBytes : 0) +
         kEntryLengthBytes + kBoxesEntryBytes + boxes * kMacBytes;
}

std::string TensorizerPlan::Encryption(size_t tensor, const RecordFindings& findings) const {
  std::string block;
  if (!writing_.encrypted) {
    return block;
  }
  PutUnsigned(block, EncryptionBytes(tensor) - 8, 8);
  PutUnsigned(block, !boxed(tensor) ? 0 : writing_.password ? 2 : 1, 2);
  if (!boxed(tensor)) {
    return block;
  }
  if (writing_.password) {
    PutUnsigned(block, kPasswordEntryBytes, 8);
    PutUnsigned(block, 1, 2);
    PutUnsigned(block, 1, 2);
    PutUnsigned(block, findings.password->operations, 8);
    PutUnsigned(block, findings.password->memory, 8);
    PutUnsigned(block, kArgon2id13, 4);
    PutText(block, findings.password->salt, 2);
  }
  PutUnsigned(block, kBoxesEntryBytes + findings.macs.size(), 8);
  PutUnsigned(block, 2, 2);
  PutUnsigned(block, writing_.box_bytes, 8);
  block += findings.nonce;
  PutUnsigned(block, findings.macs.size() / kMacBytes, 8);
  block += findings.macs;
  return block;
}

std::string TensorizerPlan::Hashes(size_t tensor, const RecordFindings& findings) const {
  std::string hashes;
  PutUnsigned(hashes, has_crc32(tensor) ? 2 : 1, 1);
  if (has_crc32(tensor)) {
    PutUnsigned(hashes, static_cast<uint64_t>(RecordHash::Kind::kCrc32), 1);
    PutText(hashes, std::string(findings.crc32.rbegin(), findings.crc32.rend()), 1);
  }
  PutUnsigned(hashes, static_cast<uint64_t>(RecordHash::Kind::kSha256), 1);
  PutText(hashes, findings.sha256, 1);
  return hashes;
}

std::string TensorizerPlan::Assembled(size_t tensor, const RecordFindings& findings,
                                      absl::string_view encryption) const {
  const TensorEntry& entry = tensors_[tensor];
  std::string header;
  PutUnsigned(header, entry.record->header.size(), 8);
  PutUnsigned(header, findings.module, 2);
  PutUnsigned(header, static_cast<uint64_t>(entry.record->kind), 1);
  PutText(header, entry.name, 2);
  header += types_[tensor];
  PutText(header, Hashes(tensor, findings), 2);
  header.append(encryption.data(), encryption.size());
  PutUnsigned(header, entry.bytes.size(), 8);
  return header;
}

std::string TensorizerPlan::HashedHeader(size_t tensor, uint16_t module) const {
  RecordFindings none;
  none.module = module;
  none.crc32 = std::string(kCrc32Bytes, '\0');
  none.sha256 = std::string(kSha256Bytes, '\0');
  return Assembled(tensor, none, "");
}

std::string TensorizerPlan::Header(size_t tensor, const RecordFindings& findings) const {
  return Assembled(tensor, findings, Encryption(tensor, findings));
}

}  // namespace weightd::format
