#ifndef WEIGHTD_DAEMON_PIPELINE_TENSOR_KEYS_H_
#define WEIGHTD_DAEMON_PIPELINE_TENSOR_KEYS_H_

#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/cancellation.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/secret_key.h"
#include "daemon/format/tensorizer_record.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"

namespace weightd::pipeline {

// The keys of one load's tensors: the one that was given, or those that its password makes, each of
// which is made once. Thread-safe.
class TensorKeys {
 public:
  // `make_room` counts the memory that making a key takes for a while; it outlives this. Null:
  // nobody counts.
  TensorKeys(std::optional<ModelKey> key, const MakeRoom* make_room)
      : key_(std::move(key)), make_room_(make_room) {}

  bool given() const { return key_.has_value(); }
  bool password() const { return key_.has_value() && key_->password; }
  // For files that are encrypted with AES-CTR, and for no others.
  std::optional<format::CtrKey> ctr() const { return CtrKeyOf(key_); }

  // What to decrypt a tensor with. kKeyRefused for a password where the file only takes a key, and
  // for a key of AES-CTR. Each key that has to be made takes a second or more, in which nothing is
  // noticed of a cancellation.
  absl::StatusOr<format::SecretKey> For(const format::TensorRecord& record,
                                        const Cancellation& cancellation)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const std::optional<ModelKey> key_;
  const MakeRoom* const make_room_;
  absl::Mutex mutex_;
  std::vector<std::pair<format::PasswordHashing, format::SecretKey>> made_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_TENSOR_KEYS_H_
