#ifndef WEIGHTD_DAEMON_SERVICE_PRELOAD_CALL_H_
#define WEIGHTD_DAEMON_SERVICE_PRELOAD_CALL_H_

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "daemon/cache/cache.h"
#include "daemon/service/call.h"
#include "daemon/service/model_names.h"
#include "daemon/service/progress_stream.h"
#include "weightd/v1/admin.pb.h"

namespace weightd::service {

// One running Preload. The load goes on when the caller leaves.
class PreloadCall final : public ProgressStream<v1::PreloadResponse> {
 public:
  // `names` outlives the call.
  PreloadCall(grpc::CallbackServerContext* context, Call call, const ModelNames* names)
      : ProgressStream(context, std::move(call)), names_(names) {}

  // In the call's handler; once.
  void Start(cache::Cache* cache, cache::PreloadRequest request);

  void OnCancel() override;
  void OnDone() override;

 private:
  std::unique_ptr<cache::Wait> TakeWait();

  const ModelNames* const names_;
  absl::Mutex mutex_;
  std::unique_ptr<cache::Wait> wait_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_PRELOAD_CALL_H_
