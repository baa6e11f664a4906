#ifndef WEIGHTD_DAEMON_CONVERT_TENSOR_READER_H_
#define WEIGHTD_DAEMON_CONVERT_TENSOR_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
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
  // All outlive it.
  TensorReader(const Input* input, pipeline::VerifyPolicy policy, pipeline::TensorKeys* keys);

  // Begins with a tensor of file number `file`: reads what its record says. Its number of module,
  // or 0.
  absl::StatusOr<uint16_t> Open(uint32_t file, const format::TensorEntry& tensor,
                                Cancellation& cancellation);

  // Its bytes, in order, each call's a multiple of 64 but the last's. They may be changed, and are
  // valid until `take` returns.
  using Take = absl::FunctionRef<absl::Status(absl::Span<std::byte> bytes)>;
  // After Open, once. kVerificationFailed or kKeyRefused for bytes that aren't what the record
  // says, found out after the last were taken.
  absl::StatusOr<TensorFinding> Read(Take take, Cancellation& cancellation);

 private:
  absl::StatusOr<absl::Span<std::byte>> Fetch(ByteRange range, Cancellation& cancellation);
  absl::Status Decrypt(uint64_t first, absl::Span<std::byte> bytes);

  const Input& input_;
  const pipeline::VerifyPolicy policy_;
  pipeline::TensorKeys& keys_;
  std::unique_ptr<std::byte[]> buffer_;
  uint64_t buffer_bytes_ = 0;

  uint32_t file_ = 0;
  const format::TensorEntry* tensor_ = nullptr;
  std::unique_ptr<format::TensorRecord> record_;
  format::SecretKey key_;
};

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_TENSOR_READER_H_
