#include "client/cpp/held_lease.h"

#include <sys/stat.h>

#include <utility>

#include "absl/time/clock.h"
#include "common/status.h"

namespace weightd::client {
namespace {

// What came back is not worth a longer wait.
constexpr absl::Duration kRenewalPatience = absl::Seconds(10);

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

void HeldLease::Renew(const std::shared_ptr<Client::Connection>& next) {
  {
    const absl::MutexLock lock(&mutex_);
    if (renewing_ || lost_ || connection_ == next || connection_->session().Lives()) {
      return;
    }
    renewing_ = true;
  }
  const Session::Segment kind =
      request_.has_device() ? Session::Segment::kDevice : Session::Segment::kHost;
  const absl::Time deadline = absl::Now() + kRenewalPatience;
  const auto grant = next->Acquire(request_, deadline, nullptr);
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
