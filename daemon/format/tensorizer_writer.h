#ifndef WEIGHTD_DAEMON_FORMAT_TENSORIZER_WRITER_H_
#define WEIGHTD_DAEMON_FORMAT_TENSORIZER_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/format/header.h"
#include "daemon/format/tensorizer_record.h"

// Writes what tensorizer.h reads, in the order and the least data version in which tensorizer's own
// writer would. Everything but hashes, nonces and MACs is known before the first byte of a tensor:
// tensors can be written in any order, and at once. Pure.

namespace weightd::format {

struct TensorizerWriting {
  // Whether every tensor's bytes are to be boxes (secretbox.h), and whether records tell how the
  // key is made of a password.
  bool encrypted = false;
  bool password = false;
  // Of each box; a multiple of 64, at least 1024.
  uint64_t box_bytes = 2 << 20;
  // 0: as tensorizer has it, or more if the entries need more.
  uint64_t metadata_bytes = 0;
};

// What a record says that isn't known before.
struct RecordFindings {
  // The module's number in its writer.
  uint16_t module = 0;
  // Raw bytes, of HashedHeader() and the tensor's plain bytes. A CRC's most significant byte first;
  // in an encrypted file only tensors without bytes have one.
  std::string crc32;
  std::string sha256;
  // Of tensors that have bytes, in an encrypted file.
  std::optional<PasswordHashing> password;
  std::string nonce;
  std::string macs;
};

// A file that is to be written.
class TensorizerPlan {
 public:
  // In the order of `tensors`. Of each: name, type, shape and nbytes; bytes, if only to tell
  // whether it is stored; and its kind, if it has a record. kUnsupported for what the format can't
  // say, naming the tensor.
  static absl::StatusOr<TensorizerPlan> Make(std::vector<TensorEntry> tensors,
                                             const TensorizerWriting& writing);

  // The tensors as the file has them: where their bytes and their records lie.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  // What stands before the first record.
  const std::string& head() const { return head_; }
  uint64_t file_bytes() const { return file_bytes_; }

  // Whether the tensor has boxes.
  bool boxed(size_t tensor) const;
  // Whether its record has a CRC-32.
  bool has_crc32(size_t tensor) const { return !boxed(tensor); }
  // What its hashes cover before its bytes.
  std::string HashedHeader(size_t tensor, uint16_t module) const;
  // Its record's header, of tensors()[tensor].record->header.size() bytes.
  std::string Header(size_t tensor, const RecordFindings& findings) const;

 private:
  TensorizerPlan() = default;

  void MakeHead(uint32_t version, uint64_t metadata_bytes);
  std::string Hashes(size_t tensor, const RecordFindings& findings) const;
  uint64_t EncryptionBytes(size_t tensor) const;
  std::string Encryption(size_t tensor, const RecordFindings& findings) const;
  std::string Assembled(size_t tensor, const RecordFindings& findings,
                        absl::string_view encryption) const;

  TensorizerWriting writing_;
  std::vector<TensorEntry> tensors_;
  // What metadata and record both say of a tensor: kind excepted, name, type and shape.
  std::vector<std::string> types_;
  std::string head_;
  uint64_t file_bytes_ = 0;
};

// Ends the file.
inline constexpr uint64_t kTensorizerTerminatorBytes = 8;

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_TENSORIZER_WRITER_H_
