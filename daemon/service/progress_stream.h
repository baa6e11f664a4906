#ifndef WEIGHTD_DAEMON_SERVICE_PROGRESS_STREAM_H_
#define WEIGHTD_DAEMON_SERVICE_PROGRESS_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "daemon/service/call.h"
#include "daemon/service/grpc_status.h"

namespace weightd::service {

// An answer that streams progress and then one last message. Progress that comes faster than the
// peer takes it is dropped, but for the newest. Thread-safe; deletes itself when the call is over.
template <typename Response>
class ProgressStream : public grpc::ServerWriteReactor<Response> {
 public:
  ProgressStream(grpc::CallbackServerContext* context, Call call)
      : context_(context), call_(std::move(call)) {}

  // Ends the call: `last` if `status` is OK, else an error. Only the first end counts; false if
  // this is not it. The stream may be gone when this returns.
  bool End(absl::Status status, Response last = {}) {
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) {
        return false;
      }
      ending_ = true;
      status_ = std::move(status);
      last_ = std::move(last);
      if (writing_) {
        return true;
      }
    }
    SendEnd();
    return true;
  }

  void Offer(Response progress) {
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) {
        return;
      }
      if (writing_) {
        pending_ = std::move(progress);
        return;
      }
      writing_ = true;
      current_ = std::move(progress);
    }
    this->StartWrite(&current_);
  }

  void OnWriteDone(bool /*ok*/) final {
    bool end = false;
    {
      absl::MutexLock lock(&mutex_);
      end = ending_;
      if (!end && !pending_.has_value()) {
        writing_ = false;
        return;
      }
      if (!end) {
        current_ = *std::move(pending_);
        pending_.reset();
      }
    }
    if (end) {
      SendEnd();
    } else {
      this->StartWrite(&current_);
    }
  }

  void OnDone() override { delete this; }

 protected:
  const grpc::CallbackServerContext& context() const { return *context_; }
  // In OnDone, for a call that turned out otherwise than it ended.
  void SetOutcome(absl::Status outcome) { call_.SetOutcome(std::move(outcome)); }

 private:
  // By whoever sets `ending_`, or when the write that was under way then is done: once.
  void SendEnd() {
    grpc::Status status = EndCall(call_, status_, *context_);
    if (status.ok()) {
      this->StartWriteAndFinish(&last_, grpc::WriteOptions(), std::move(status));
    } else {
      this->Finish(std::move(status));
    }
  }

  grpc::CallbackServerContext* const context_;
  // Touched by SendEnd, then by OnDone.
  Call call_;
  absl::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Response> pending_ ABSL_GUARDED_BY(mutex_);
  // gRPC reads it while `writing_`.
  Response current_;
  // Set with `ending_`, then read by SendEnd.
  absl::Status status_;
  Response last_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_PROGRESS_STREAM_H_
