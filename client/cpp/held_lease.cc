#include "client/cpp/held_lease.h"

#include <sys/stat.h>

#include <utility>

#include "common/status.h"

namespace weightd::client {
namespace {

bool IsGone(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return !status.ok() && (reason == Reason::kModelNotResident || reason == Reason::kModelNotFound ||
                          reason == Reason::kNotAllowed);
}

v1::AcquireRequest RenewalOf(const v1::AcquireRequest& asked, const v1::Grant& grant) {
  v1::AcquireRequest request;
  request.set_model(asked.model());
  request.set_revision(grant.model().revision());
  request.set_resident_only(true);
  if (asked.has_device()) {
    *request.mutable_device() = asked.device();
  }
  return request;
}

}  // namespace

HeldLease::HeldLease(std::shared_ptr<Client::Connection> connection,
                     const v1::AcquireRequest& asked, const v1::Grant& grant, const Fd& segment)
    : request_(RenewalOf(asked, grant)),
      connection_(std::move(connection)),
      lease_(grant.lease_id()) {
  struct stat status{};
  if (fstat(segment.get(), &status) == 0) {
    device_ = status.st_dev;
    inode_ = status.st_ino;
  }
}

HeldLease::~HeldLease() { connection_->Release(lease_); }

bool HeldLease::MayRenew(const std::shared_ptr<Client::Connection>& next) const {
  return !renewing_ && !lost_ && connection_ != next && !connection_->session().Lives();
}

bool HeldLease::NeedsRenewal(const std::shared_ptr<Client::Connection>& next) {
  const absl::MutexLock lock(&mutex_);
  return MayRenew(next);
}

void HeldLease::Renew(const std::shared_ptr<Client::Connection>& next, absl::Time deadline,
                      Cancellation& cancellation) {
  {
    const absl::MutexLock lock(&mutex_);
    if (!MayRenew(next)) {
      return;
    }
    renewing_ = true;
  }
  const Session::Segment kind = on_gpu() ? Session::Segment::kDevice : Session::Segment::kHost;
  const auto grant = next->Acquire(request_, deadline, nullptr, &cancellation);
  bool same = false;
  // That daemon doesn't have it, or not for us.
  bool lost = IsGone(grant.status());
  if (grant.ok()) {
    const LeaseId lease(grant->lease_id());
    const auto claimed = next->session().Claim(lease, kind, deadline);
    struct stat status{};
    same = claimed.ok() && fstat(claimed->segment.get(), &status) == 0 &&
           status.st_dev == device_ && status.st_ino == inode_;
    lost = claimed.ok() && !same;
    if (!same) {
      next->Release(lease);
    }
  }
  const absl::MutexLock lock(&mutex_);
  renewing_ = false;
  lost_ = lost;
  if (same) {
    connection_ = next;
    lease_ = LeaseId(grant->lease_id());
  }
}

}  // namespace weightd::client
