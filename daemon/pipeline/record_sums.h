#ifndef WEIGHTD_DAEMON_PIPELINE_RECORD_SUMS_H_
#define WEIGHTD_DAEMON_PIPELINE_RECORD_SUMS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "daemon/format/tensorizer_record.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/checksum.h"

namespace weightd::pipeline {

// The checksums that a tensor's record says it has, as far as a policy wants them. For one thread
// at a time.
class RecordSums {
 public:
  RecordSums(const format::TensorRecord& record, VerifyPolicy policy);

  // None is to be verified.
  bool empty() const { return sums_.empty(); }
  bool Has(source::ChecksumKind kind) const;
  // The tensor's decrypted bytes, in order.
  void Update(absl::Span<const std::byte> bytes);
  // After all bytes, once. kVerificationFailed with both values for one that differs; errors begin
  // with `tensor`.
  absl::Status Check(absl::string_view tensor);

 private:
  struct Sum {
    source::ChecksumKind kind = source::ChecksumKind::kCrc32;
    // As source::Checksum's.
    std::string expected;
    std::unique_ptr<source::Hasher> hasher;
  };
  std::vector<Sum> sums_;
};

// How errors name a tensor: with file and offset.
std::string TensorInFile(absl::string_view file, const format::TensorEntry& tensor);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_RECORD_SUMS_H_
