#ifndef WEIGHTD_CLIENT_CPP_HELD_LEASE_H_
#define WEIGHTD_CLIENT_CPP_HELD_LEASE_H_

#include <sys/types.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/connection.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "common/ids.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::client {

// A lease on a segment that this process maps, for as long as this lives: of the daemon that
// granted it, or of one that came after and has the same segment. That two descriptors of a GPU's
// memory are of different memory a driver may not tell; then a lease on the same revision there has
// to do. Thread-safe.
class HeldLease {
 public:
  // Of what was asked for.
  HeldLease(std::shared_ptr<Client::Connection> connection, const v1::AcquireRequest& asked,
            const v1::Grant& grant, const Fd& segment);
  // Releases it.
  ~HeldLease();
  HeldLease(const HeldLease&) = delete;

  // Whether it ended with its daemon, and that of `next` may have the segment.
  bool NeedsRenewal(const std::shared_ptr<Client::Connection>& next) ABSL_LOCKS_EXCLUDED(mutex_);
  // If so: takes one of `next` on the same segment, which stays mapped where it is. Nothing changes
  // if that daemon doesn't have it, or not by `deadline`. A daemon gives one on host memory at
  // once, and one on a GPU's when a worker there has looked at it.
  void Renew(const std::shared_ptr<Client::Connection>& next, absl::Time deadline,
             Cancellation& cancellation) ABSL_LOCKS_EXCLUDED(mutex_);
  bool on_gpu() const { return request_.has_device(); }

 private:
  bool MayRenew(const std::shared_ptr<Client::Connection>& next) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // What a next daemon is asked for.
  const v1::AcquireRequest request_;
  // Which file the segment is.
  dev_t device_ = 0;
  ino_t inode_ = 0;

  absl::Mutex mutex_;
  std::shared_ptr<Client::Connection> connection_ ABSL_GUARDED_BY(mutex_);
  LeaseId lease_ ABSL_GUARDED_BY(mutex_);
  bool renewing_ ABSL_GUARDED_BY(mutex_) = false;
  // Some daemon has it no more, and so none will again.
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_HELD_LEASE_H_
