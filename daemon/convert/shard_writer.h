#ifndef WEIGHTD_DAEMON_CONVERT_SHARD_WRITER_H_
#define WEIGHTD_DAEMON_CONVERT_SHARD_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "daemon/convert/conversion.h"
#include "daemon/convert/output_file.h"
#include "daemon/format/secret_key.h"
#include "daemon/format/tensorizer_record.h"

namespace weightd::convert {

// What tensors are encrypted with.
struct Sealing {
  format::SecretKey key;
  // How `key` was made, if of a password.
  std::optional<format::PasswordHashing> password = {};
};

// Takes one tensor's bytes, in order. For one thread at a time.
class TensorWriter {
 public:
  virtual ~TensorWriter() = default;
  // Each call's bytes but the last's are a multiple of 64. They are changed.
  virtual absl::Status Take(absl::Span<std::byte> bytes) = 0;
  virtual absl::Status Finish() = 0;
};

// Writes one file. Thread-safe after Open: tensors may come in any order, and at once.
class ShardWriter {
 public:
  virtual ~ShardWriter() = default;

  virtual uint64_t file_bytes() const = 0;
  // Makes the file; nothing is at `path` yet. Once, before what follows.
  absl::Status Open(std::string path);
  // Of tensor number `tensor` of the shard; `module` as in its record. Doesn't outlive this.
  virtual std::unique_ptr<TensorWriter> Begin(size_t tensor, uint16_t module) = 0;
  // When all tensors are written: what else there is, down to the disk.
  virtual absl::Status Finish() = 0;

 protected:
  const OutputFile& file() const { return *file_; }

 private:
  std::optional<OutputFile> file_;
};

// `shard` outlives it. kUnsupported for what the format can't say.
absl::StatusOr<std::unique_ptr<ShardWriter>> MakeSafetensorsWriter(
    const Shard& shard, const std::map<std::string, std::string>& metadata);
// Encrypted if `sealing` isn't null; it outlives this, too.
absl::StatusOr<std::unique_ptr<ShardWriter>> MakeTensorizerWriter(const Shard& shard,
                                                                  const Sealing* sealing);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_SHARD_WRITER_H_
