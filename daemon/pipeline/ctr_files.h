#ifndef WEIGHTD_DAEMON_PIPELINE_CTR_FILES_H_
#define WEIGHTD_DAEMON_PIPELINE_CTR_FILES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
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
  // `headers` are those of the model's files, `extents` the layout's.
  CtrFiles(absl::Span<const format::FileHeader> headers, absl::Span<const Extent> extents);

  bool Has(uint32_t file) const { return traits_[file].has_value(); }
  // Of the first one; nothing if there is none.
  std::optional<uint32_t> first() const;
  // In all of them.
  uint64_t tensors() const { return tensors_; }
  size_t pieces() const { return pieces_.size(); }

  // Decrypts pieces that no other thread has begun, each once it has come to `segment`, until none
  // is left; OK, too, if it was stopped.
  absl::Status Decrypt(const format::SecretKey& key, Arrivals& arrivals, std::byte* segment);

 private:
  // By file.
  std::vector<std::optional<format::CtrTraits>> traits_;
  uint64_t tensors_ = 0;
  // In the order in which bytes come.
  std::vector<Extent> pieces_;
  std::atomic<size_t> next_ = 0;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_CTR_FILES_H_
