#ifndef WEIGHTD_DAEMON_SERVICE_EVENT_STREAM_H_
#define WEIGHTD_DAEMON_SERVICE_EVENT_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "daemon/cache/events.h"
#include "daemon/service/call.h"
#include "weightd/v1/admin.pb.h"

namespace weightd::service {

class EventStream;

// A thread that begins the writes of event streams, so that whoever publishes an event, under
// whatever lock, only queues it.
class EventWriter {
 public:
  EventWriter();
  // No stream is left.
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;

  // Calls stream->Next() soon.
  void Hand(EventStream* stream) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run();
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !handed_.empty();
  }

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<EventStream*> handed_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// One running WatchEvents: events in order, the oldest dropped and counted where the caller reads
// too slowly. Deletes itself when the call is over, which always is when the caller leaves.
class EventStream final : public grpc::ServerWriteReactor<v1::WatchEventsResponse> {
 public:
  // Events that wait for the caller.
  static constexpr size_t kMaxWaiting = 1024;

  // Both outlive the stream.
  EventStream(Call call, cache::EventLog* events, EventWriter* writer);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  friend class EventWriter;
  void OnEvent(const cache::Event& event);
  // Writes the oldest waiting event, ends the call if that was asked for, or goes idle. Called by
  // whoever owns the stream.
  void Next();

  const Call call_;
  EventWriter* const writer_;
  std::unique_ptr<cache::EventLog::Subscription> subscription_;
  absl::Mutex mutex_;
  std::deque<cache::Event> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t lost_ ABSL_GUARDED_BY(mutex_) = 0;
  // Somebody owns the stream, which doesn't end before they go on: a write runs, or Next() does or
  // will.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // gRPC reads it while `writing_`.
  v1::WatchEventsResponse current_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_EVENT_STREAM_H_
