#include "daemon/pipeline/tensor_keys.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/secretbox.h"

namespace weightd::pipeline {
namespace {

// Writers give all tensors of a file the same salt. Each key takes a second.
constexpr size_t kMostKeys = 8;

}  // namespace

absl::StatusOr<format::SecretKey> TensorKeys::For(const format::TensorRecord& record,
                                                  const Cancellation& cancellation) {
  if (key_->ctr_iv.has_value()) {
    return Error(Reason::kKeyRefused, "it was encrypted as tensorizer does it, not with AES-CTR",
                 "give its own key");
  }
  if (!key_->password) {
    return key_->secret;
  }
  if (!record.password.has_value()) {
    return Error(Reason::kKeyRefused, "it was encrypted with a key, not with a password",
                 "give the key of 32 bytes");
  }
  absl::MutexLock lock(&mutex_);
  const auto made = std::find_if(made_.begin(), made_.end(),
                                 [&](const auto& one) { return one.first == *record.password; });
  if (made != made_.end()) {
    return made->second;
  }
  RETURN_IF_ERROR(cancellation.status());
  if (made_.size() == kMostKeys) {
    return Error(Reason::kMalformedModel,
                 absl::StrCat("its tensors want more than ", kMostKeys, " keys of one password"),
                 "no writer makes such files: encrypt it again");
  }
  const uint64_t memory = std::min(record.password->memory, format::kMostPasswordMemory);
  host::Reservation room;
  if (make_room_ != nullptr) {
    ASSIGN_OR_RETURN(room, (*make_room_)(std::max<uint64_t>(memory, 1)));
    room.Settle();  // taken at once, not filled over time
  }
  ASSIGN_OR_RETURN(format::SecretKey key,
                   format::KeyOfPassword(key_->secret.bytes(), *record.password));
  made_.emplace_back(*record.password, key);
  return key;
}

}  // namespace weightd::pipeline
