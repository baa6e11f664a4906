#include "daemon/source/http/http_run.h"

namespace weightd::source {

void Run::WakeAll() {
  for (CURLM* const multi : multis_) {
    curl_multi_wakeup(multi);
  }
}

Exchange* Run::Next() {
  Exchange* const next = exhausted_ ? nullptr : exchanges_.Next(regulator_.connections());
  // A thread that hoped for another connection may go.
  if (next == nullptr && !exhausted_.exchange(true)) {
    WakeAll();
  }
  return next;
}

void Run::Fail(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    status_.Update(status);
  }
  Stop();
}

void Run::Stop() {
  stopped_ = true;
  WakeAll();
}

absl::Status Run::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

}  // namespace weightd::source
