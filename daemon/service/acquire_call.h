#ifndef WEIGHTD_DAEMON_SERVICE_ACQUIRE_CALL_H_
#define WEIGHTD_DAEMON_SERVICE_ACQUIRE_CALL_H_

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "daemon/cache/cache.h"
#include "daemon/service/call.h"
#include "daemon/service/model_names.h"
#include "daemon/service/progress_stream.h"
#include "daemon/service/sessions.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::service {

// One running Acquire. The lease belongs to the session; it ends here only when nobody can have
// learned of it: the call was cancelled before the grant left, or the session ended meanwhile.
class AcquireCall final : public ProgressStream<v1::AcquireResponse> {
 public:
  // Everything outlives the call.
  struct Daemon {
    cache::Cache* cache;
    Sessions* sessions;
    const ModelNames* names;
  };

  AcquireCall(grpc::CallbackServerContext* context, Call call, Daemon daemon)
      : ProgressStream(context, std::move(call)), daemon_(daemon) {}

  // In the call's handler; once.
  void Start(cache::AcquireRequest request);

  void OnCancel() override;
  void OnDone() override;

 private:
  void OnProgress(const cache::ProgressSnapshot& progress);
  void OnGrant(absl::StatusOr<cache::Grant> grant);
  std::unique_ptr<cache::Wait> TakeWait();

  const Daemon daemon_;
  SessionId session_;
  absl::Mutex mutex_;
  std::unique_ptr<cache::Wait> wait_ ABSL_GUARDED_BY(mutex_);
  // Of a grant that was sent.
  LeaseId lease_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_ACQUIRE_CALL_H_
