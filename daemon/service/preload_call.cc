#include "daemon/service/preload_call.h"

#include <utility>

#include "common/status.h"
#include "daemon/service/convert.h"

namespace weightd::service {

void PreloadCall::Start(cache::Cache* cache, cache::PreloadRequest request) {
  cache::PreloadCallbacks callbacks;
  callbacks.progress = [this](const cache::ProgressSnapshot& progress) {
    v1::PreloadResponse response;
    *response.mutable_progress() = ToProto(progress);
    Offer(std::move(response));
  };
  callbacks.done = [this](absl::StatusOr<cache::ModelSnapshot> model) {
    v1::PreloadResponse response;
    if (model.ok()) {
      *response.mutable_model() = ToProto(*model, *names_);
    }
    End(model.status(), std::move(response));
  };
  std::unique_ptr<cache::Wait> wait = cache->Preload(std::move(request), std::move(callbacks));
  absl::MutexLock lock(&mutex_);
  wait_ = std::move(wait);
}

std::unique_ptr<cache::Wait> PreloadCall::TakeWait() {
  absl::MutexLock lock(&mutex_);
  return std::move(wait_);
}

void PreloadCall::OnCancel() {
  // Outside the lock: waits for a callback that runs.
  TakeWait().reset();
  End(Error(Reason::kCancelled, "the call was cancelled"));
}

void PreloadCall::OnDone() {
  TakeWait().reset();
  delete this;
}

}  // namespace weightd::service
