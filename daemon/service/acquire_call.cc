#include "daemon/service/acquire_call.h"

#include <utility>

#include "common/status.h"
#include "daemon/service/convert.h"

namespace weightd::service {
namespace {

absl::Status Cancelled() { return Error(Reason::kCancelled, "the call was cancelled"); }

absl::Status SessionEnded() { return Error(Reason::kSessionInvalid, "the session has ended"); }

}  // namespace

void AcquireCall::Start(cache::AcquireRequest request) {
  const SessionId session = request.holder.session;
  if (absl::Status begun = daemon_.sessions->BeginCall(session); !begun.ok()) {
    End(std::move(begun));
    return;
  }
  session_ = session;
  std::unique_ptr<cache::Wait> wait = daemon_.cache->Acquire(
      std::move(request),
      {[this](const cache::ProgressSnapshot& progress) { OnProgress(progress); },
       [this](absl::StatusOr<cache::Grant> grant) { OnGrant(std::move(grant)); }});
  absl::MutexLock lock(&mutex_);
  wait_ = std::move(wait);
}

void AcquireCall::OnProgress(const cache::ProgressSnapshot& progress) {
  if (!daemon_.sessions->IsOpen(session_)) {
    End(SessionEnded());
    return;
  }
  v1::AcquireResponse response;
  *response.mutable_progress() = ToProto(progress);
  Offer(std::move(response));
}

void AcquireCall::OnGrant(absl::StatusOr<cache::Grant> grant) {
  if (!grant.ok()) {
    End(grant.status());
    return;
  }
  const LeaseId lease = grant->lease;
  // The call may be over, and gone, as soon as it was told to end.
  cache::Cache* const cache = daemon_.cache;
  const SessionId session = session_;
  {
    absl::MutexLock lock(&mutex_);
    lease_ = lease;
  }
  if (!daemon_.sessions->IsOpen(session)) {
    cache->Release(session, lease).IgnoreError();
    End(SessionEnded());
    return;
  }
  v1::AcquireResponse response;
  response.mutable_grant()->set_lease_id(lease.value());
  *response.mutable_grant()->mutable_model() = ToProto(grant->model, *daemon_.names);
  *response.mutable_grant()->mutable_verification() = VerificationOf(*grant);
  if (grant->device.has_value()) {
    *response.mutable_grant()->mutable_device() = ToProto(*grant->device);
  }
  if (!End(absl::OkStatus(), std::move(response))) {
    cache->Release(session, lease).IgnoreError();
  }
}

std::unique_ptr<cache::Wait> AcquireCall::TakeWait() {
  absl::MutexLock lock(&mutex_);
  return std::move(wait_);
}

void AcquireCall::OnCancel() {
  // Outside the lock: waits for a callback that runs.
  TakeWait().reset();
  End(Cancelled());
}

void AcquireCall::OnDone() {
  TakeWait().reset();
  LeaseId lease;
  {
    absl::MutexLock lock(&mutex_);
    lease = lease_;
  }
  if (lease != LeaseId() && context().IsCancelled()) {
    daemon_.cache->Release(session_, lease).IgnoreError();
    SetOutcome(Cancelled());
  }
  if (session_ != SessionId()) {
    daemon_.sessions->EndCall(session_);
  }
  delete this;
}

}  // namespace weightd::service
