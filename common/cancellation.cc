#include "common/cancellation.h"

#include "absl/synchronization/notification.h"

namespace weightd {

Cancellation::Registration::~Registration() {
  absl::MutexLock lock(&owner_->mutex_);
  owner_->callbacks_.erase(id_);
}

void Cancellation::Cancel(absl::Status reason) {
  absl::MutexLock lock(&mutex_);
  if (!status_.ok()) {
    return;
  }
  status_ = std::move(reason);
  for (const auto& [id, wake] : callbacks_) {
    wake();
  }
}

absl::Status Cancellation::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

void Cancellation::WaitFor(absl::Duration duration) {
  absl::Notification cancelled;
  const Registration registration = OnCancel([&cancelled] { cancelled.Notify(); });
  cancelled.WaitForNotificationWithTimeout(duration);
}

Cancellation::Registration Cancellation::OnCancel(std::function<void()> wake) {
  absl::MutexLock lock(&mutex_);
  if (!status_.ok()) {
    wake();
  }
  const uint64_t id = next_id_++;
  callbacks_.emplace(id, std::move(wake));
  return Registration(this, id);
}

}  // namespace weightd
