#ifndef WEIGHTD_DAEMON_CONVERT_TENSOR_READER_H_
#define WEIGHTD_DAEMON_CONVERT_TENSOR_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "daemon/convert/input.h"
#include "daemon/format/header.h"
#include "daemon/format/tensorizer_record.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/record_sums.h"
#include "daemon/pipeline/tensor_keys.h"

namespace weightd::convert {

// What proved a tensor's bytes.
struct TensorFinding {
  bool crc32 = false;
  bool sha256 = false;
  bool poly1305 = false;

  bool any() const { return crc32 || sha256 || poly1305; }
};

// Reads tensors one at a time, front to back, decrypted and verified as they come, in the memory of
// one buffer. For one thread at a time; several may share an input and keys.
class TensorReader {
 public:
  // All outlive it. Readers of one input share `large`, held while a buffer is larger than usual.
  TensorReader(const Input* input, pipeline::VerifyPolicy policy, pipeline::TensorKeys* keys,
               absl::Mutex* large);

  // Reads bytes of a file at once, as many as the buffer has room for. Tensors that lie there, with
  // their records, and are then read in their order, are taken from memory.
  absl::Status ReadAhead(uint32_t file, ByteRange bytes, Cancellation& cancellation);

  // Begins with a tensor of file number `file`: reads what its record says. Its number of module,
  // or 0.
  absl::StatusOr<uint16_t> Open(uint32_t file, const format::TensorEntry& tensor,
                                Cancellation& cancellation);

  // After Open, instead of Read: whether the key opens the first piece of its encrypted bytes. True
  // if they aren't encrypted.
  absl::StatusOr<bool> KeyOpens(Cancellation& cancellation);

  // Its bytes, in order, each call's a multiple of 64 but the last's. They may be changed, and are
  // valid until `take` returns.
  using Take = absl::FunctionRef<absl::Status(absl::Span<std::byte> bytes)>;
  // After Open, once. kVerificationFailed for bytes that aren't what the record says: a checksum is
  // found out after the last were taken.
  absl::StatusOr<TensorFinding> Read(Take take, Cancellation& cancellation);

 private:
  // Bytes of the file, read unless they are held. No longer held: whoever has them may change them.
  absl::StatusOr<absl::Span<std::byte>> Fetch(ByteRange range, Cancellation& cancellation);
  // Reads bytes of the file into the buffer, but for what it holds of their beginning.
  absl::Status Fill(ByteRange range, Cancellation& cancellation);
  void DropLargeBuffer();
  // How many bytes to take next, from `at` on: whole `unit`s, but for the tensor's end.
  uint64_t NextStep(uint64_t at, uint64_t unit) const;
  absl::Status Decrypt(uint64_t first, absl::Span<std::byte> bytes);

  const Input& input_;
  const pipeline::VerifyPolicy policy_;
  pipeline::TensorKeys& keys_;
  absl::Mutex& large_;
  std::unique_ptr<std::byte[]> buffer_;
  uint64_t buffer_bytes_ = 0;
  // Where in the file the buffer's first byte is from, and what of it wasn't given to anybody.
  uint64_t buffer_begin_ = 0;
  ByteRange held_;

  uint32_t file_ = 0;
  const format::TensorEntry* tensor_ = nullptr;
  std::unique_ptr<format::TensorRecord> record_;
  format::SecretKey key_;
};

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_TENSOR_READER_H_
