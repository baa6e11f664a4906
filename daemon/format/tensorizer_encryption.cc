#include "daemon/format/tensorizer_encryption.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status.h"

namespace weightd::format {
namespace {

constexpr uint64_t kPasswordEntry = 1;
constexpr uint64_t kManyBoxesEntry = 2;
constexpr uint64_t kOneBoxEntry = 3;

constexpr uint64_t kPasswordHashingMethod = 1;
constexpr uint64_t kArgon2id13 = 2;

// libsodium's crypto_pwhash_SALTBYTES, crypto_secretbox_NONCEBYTES and crypto_secretbox_MACBYTES.
constexpr uint64_t kSaltBytes = 16;
constexpr uint64_t kNonceBytes = 24;
constexpr uint64_t kMacBytes = 16;

// The reference's rule, where there is more than one box.
constexpr uint64_t kLeastBoxBytes = 1024;
constexpr uint64_t kBoxAlignment = 64;

absl::StatusOr<PasswordHashing> ReadPasswordHashing(FieldReader& entry) {
  const uint64_t offset = entry.offset();
  ASSIGN_OR_RETURN(const uint64_t method, entry.ReadUnsigned(2, "a method of key derivation"));
  if (method != kPasswordHashingMethod) {
    return entry.ErrorAt(offset, absl::StrCat("unknown method of key derivation ", method));
  }
  PasswordHashing hashing;
  ASSIGN_OR_RETURN(hashing.operations, entry.ReadUnsigned(8, "the operations of a password hash"));
  ASSIGN_OR_RETURN(hashing.memory, entry.ReadUnsigned(8, "the memory of a password hash"));
  const uint64_t at_algorithm = entry.offset();
  ASSIGN_OR_RETURN(const uint64_t algorithm, entry.ReadUnsigned(4, "a password hash"));
  if (algorithm != kArgon2id13) {
    return entry.ErrorAt(at_algorithm, absl::StrCat("unknown password hash ", algorithm));
  }
  const uint64_t at_salt = entry.offset();
  ASSIGN_OR_RETURN(const uint64_t salt_bytes, entry.ReadUnsigned(2, "a salt's length"));
  if (salt_bytes != kSaltBytes) {
    return entry.ErrorAt(at_salt,
                         absl::StrCat("a salt of ", salt_bytes, " bytes, not of ", kSaltBytes));
  }
  ASSIGN_OR_RETURN(const absl::string_view salt, entry.ReadBytes(kSaltBytes, "a salt"));
  hashing.salt = std::string(salt);
  return hashing;
}

// The number of boxes of `box_bytes`.
uint64_t BoxesFor(uint64_t data_bytes, uint64_t box_bytes) {
  return data_bytes / box_bytes + (data_bytes % box_bytes != 0 ? 1 : 0);
}

// The rule that a tensor's boxes break; empty if none.
std::string BrokenRule(uint64_t box_bytes, uint64_t macs, uint64_t data_bytes) {
  // Whatever size is written: the reference takes the whole as one.
  if (macs == 1 || (macs == 0 && data_bytes == 0)) {
    return "";
  }
  if (box_bytes < kLeastBoxBytes || box_bytes % kBoxAlignment != 0) {
    return absl::StrCat("boxes of ", box_bytes, " bytes; they must have ", kLeastBoxBytes,
                        " or more, a multiple of ", kBoxAlignment);
  }
  const uint64_t expected = BoxesFor(data_bytes, box_bytes);
  if (macs != expected) {
    return absl::StrCat(macs, " MACs for ", expected, " boxes");
  }
  return "";
}

absl::StatusOr<SealedBoxes> ReadManyBoxes(FieldReader& entry, uint64_t data_bytes) {
  const uint64_t offset = entry.offset();
  SealedBoxes boxes;
  ASSIGN_OR_RETURN(boxes.box_bytes, entry.ReadUnsigned(8, "the size of a box"));
  ASSIGN_OR_RETURN(const absl::string_view nonce, entry.ReadBytes(kNonceBytes, "a nonce"));
  ASSIGN_OR_RETURN(const uint64_t count, entry.ReadUnsigned(8, "the number of MACs"));
  const std::string broken = BrokenRule(boxes.box_bytes, count, data_bytes);
  if (!broken.empty()) {
    return entry.ErrorAt(offset, broken);
  }
  if (count > entry.left() / kMacBytes) {
    return entry.ErrorAt(offset, absl::StrCat(count, " MACs in ", entry.left(), " bytes"));
  }
  ASSIGN_OR_RETURN(const absl::string_view macs, entry.ReadBytes(count * kMacBytes, "MACs"));
  boxes.nonce = std::string(nonce);
  boxes.macs = std::string(macs);
  if (count == 1) {
    boxes.box_bytes = data_bytes;
  }
  return boxes;
}

absl::StatusOr<SealedBoxes> ReadOneBox(FieldReader& entry, uint64_t data_bytes) {
  SealedBoxes boxes;
  boxes.box_bytes = data_bytes;
  ASSIGN_OR_RETURN(const absl::string_view nonce, entry.ReadBytes(kNonceBytes, "a nonce"));
  ASSIGN_OR_RETURN(const absl::string_view mac, entry.ReadBytes(kMacBytes, "a MAC"));
  boxes.nonce = std::string(nonce);
  boxes.macs = std::string(mac);
  return boxes;
}

absl::Status ReadEntry(FieldReader& entry, uint64_t data_bytes, Encryption& encryption) {
  const uint64_t offset = entry.offset();
  ASSIGN_OR_RETURN(const uint64_t kind, entry.ReadUnsigned(2, "the kind of an entry"));
  switch (kind) {
    case kPasswordEntry: {
      if (encryption.password.has_value()) {
        return entry.ErrorAt(offset, "two ways to make a key of a password");
      }
      ASSIGN_OR_RETURN(encryption.password, ReadPasswordHashing(entry));
      break;
    }
    case kManyBoxesEntry:
    case kOneBoxEntry: {
      if (encryption.boxes.has_value()) {
        return entry.ErrorAt(offset, "the tensor is encrypted twice");
      }
      ASSIGN_OR_RETURN(encryption.boxes, kind == kOneBoxEntry ? ReadOneBox(entry, data_bytes)
                                                              : ReadManyBoxes(entry, data_bytes));
      break;
    }
    default:
      return entry.ErrorAt(offset, absl::StrCat("unknown kind of encryption ", kind));
  }
  if (entry.left() > 0) {
    return entry.ErrorAt(entry.offset(), "an entry of the encryption is too long");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Encryption> ParseEncryption(FieldReader block, uint64_t data_bytes) {
  const uint64_t offset = block.offset();
  Encryption encryption;
  ASSIGN_OR_RETURN(const uint64_t entries, block.ReadUnsigned(2, "the number of entries"));
  for (uint64_t i = 0; i < entries; ++i) {
    ASSIGN_OR_RETURN(const uint64_t length, block.ReadUnsigned(8, "an entry's length"));
    ASSIGN_OR_RETURN(FieldReader entry, block.ReadSection(length, "an entry"));
    RETURN_IF_ERROR(ReadEntry(entry, data_bytes, encryption));
  }
  if (block.left() > 0) {
    return block.ErrorAt(block.offset(), "what is said of the encryption is too long");
  }
  if (data_bytes > 0 && !encryption.boxes.has_value()) {
    return block.ErrorAt(offset, "the file is encrypted, the tensor is not");
  }
  if (data_bytes == 0) {
    encryption.boxes.reset();
  }
  return encryption;
}

}  // namespace weightd::format
