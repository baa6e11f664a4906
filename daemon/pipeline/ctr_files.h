#ifndef WEIGHTD_DAEMON_PIPELINE_CTR_FILES_H_
#define WEIGHTD_DAEMON_PIPELINE_CTR_FILES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/header.h"
#include "daemon/format/secret_key.h"
#include "daemon/pipeline/arrivals.h"
#include "daemon/pipeline/model.h"

namespace weightd::pipeline {

// The files of a load that are encrypted with AES-CTR, and their tensors' bytes, decrypted where
// they lie: piece by piece, for the cipher can begin anywhere. Thread-safe.
class CtrFiles {
 public:
  // So much is decrypted at once.
  static constexpr uint64_t kStepBytes = 1 << 20;

  // `headers` are those of the model's files, `extents` the layout's.
  CtrFiles(absl::Span<const format::FileHeader> headers, absl::Span<const Extent> extents);

  bool Has(uint32_t file) const { return traits_[file].has_value(); }
  // Of the first one; nothing if there is none.
  std::optional<uint32_t> first() const;
  // In all of them.
  uint64_t tensors() const { return tensors_; }
  // What they are decrypted in, in the order in which bytes come.
  absl::Span<const Extent> pieces() const { return pieces_; }

  // Decrypts a piece, each part of it once that has come to `segment`, and then tells of it; OK,
  // too, if it was stopped.
  absl::Status Decrypt(const format::SecretKey& key, const Extent& piece, Arrivals& arrivals,
                       std::byte* segment,
                       absl::FunctionRef<void(ByteRange bytes)> on_decrypted) const;

 private:
  // By file.
  std::vector<std::optional<format::CtrTraits>> traits_;
  uint64_t tensors_ = 0;
  std::vector<Extent> pieces_;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_CTR_FILES_H_
