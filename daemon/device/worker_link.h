#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_LINK_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_LINK_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "common/fd_passing.h"
#include "daemon/device/budget.h"
#include "daemon/device/worker_messages.h"
#include "daemon/device/worker_process.h"

namespace weightd::device {

// The daemon's end of one worker process, from its start to its end: what was asked and not yet
// answered, and what the worker exported. One thread serves it; the others ask and wait. Once it
// has ended all that waits fails, and nothing more is asked. Thread-safe.
//
// A worker that owes an answer and says nothing for `patience`, or says nonsense, is killed: so
// every wait ends, also where the driver hangs.
class WorkerLink {
 public:
  struct Reply {
    Answer answer;
    Fd fd;
  };

  WorkerLink(WorkerProcess process, absl::Duration patience);
  WorkerLink(const WorkerLink&) = delete;

  // Until the worker has ended. In the thread that started the process. Afterwards `gone` tells
  // whether there is no such process any more.
  void Serve() ABSL_LOCKS_EXCLUDED(mutex_);
  bool gone() const { return gone_; }
  // Lets the worker end, by force where it doesn't; Serve returns.
  void End() ABSL_LOCKS_EXCLUDED(mutex_);

  int pid() const { return pid_; }
  // Whether it was told to end.
  bool was_told_to_end() const ABSL_LOCKS_EXCLUDED(mutex_);
  bool was_ready() const ABSL_LOCKS_EXCLUDED(mutex_);
  bool ended() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Not once it is known that it ends.
  bool usable() const ABSL_LOCKS_EXCLUDED(mutex_);
  // kDeviceUnavailable, or what made it end; OK while it lives.
  absl::Status why_ended() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Until the worker can work, or why it can't.
  absl::Status AwaitReady() ABSL_LOCKS_EXCLUDED(mutex_);

  // Returns at once; the number of the request. `charge` is marked as allocated when a kCreate
  // or kImport succeeds, and given back when a kFree is answered or the worker ends.
  uint64_t Send(Request request, std::vector<Fd> fds = {}, Reservation charge = {})
      ABSL_LOCKS_EXCLUDED(mutex_);
  // What the worker said to that, or why there will be no answer. May be called repeatedly.
  absl::Status Await(uint64_t number, Cancellation& cancellation) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Await(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  // The rest of an answer that Await gave; and forgets the request.
  Reply TakeReply(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  Reservation TakeCharge(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  // Nobody wants that answer any more.
  void Forget(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);

  // A number for a segment that is to be created.
  uint64_t NewSegment() ABSL_LOCKS_EXCLUDED(mutex_);
  // Keeps what a segment was exported as, until it is freed or the worker ends: then nothing of
  // ours may hold the GPU's memory.
  void Keep(uint64_t segment, Fd exported) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<Fd> Duplicate(uint64_t segment) ABSL_LOCKS_EXCLUDED(mutex_);
  // The descriptor itself; invalid if there is none.
  Fd TakeKept(uint64_t segment) ABSL_LOCKS_EXCLUDED(mutex_);
  // Frees the segment, whatever has become of it, then gives back its charge. Waits for that if
  // `wait`.
  void Free(uint64_t segment, Reservation charge, bool wait) ABSL_LOCKS_EXCLUDED(mutex_);
  // The worker gives up the segment's memory: only what it was exported as holds it any more.
  absl::Status Disown(uint64_t segment) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Asked {
    Request::Type type = Request::Type::kMemory;
    Reservation charge;
    std::optional<Reply> reply;
    bool forgotten = false;
  };
  struct Outgoing {
    std::string bytes;
    std::vector<Fd> fds;
  };

  void Wake();
  // Poll's timeout, and whether there is something to send.
  std::pair<int, bool> NextWait() ABSL_LOCKS_EXCLUDED(mutex_);
  void SendQueued() ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes all packets that there are. False at the end of the conversation.
  bool ReceiveAll() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Receive(Packet packet) ABSL_LOCKS_EXCLUDED(mutex_);
  void Answered(Asked& asked, Reply reply) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool TooSilent() ABSL_LOCKS_EXCLUDED(mutex_);
  void NoteEnd() ABSL_LOCKS_EXCLUDED(mutex_);

  // Used by the serving thread.
  WorkerProcess process_;
  const int pid_;
  const absl::Duration patience_;
  const Fd wake_;
  bool gone_ = false;

  mutable absl::Mutex mutex_;
  bool told_to_end_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  // Why it ends, if that is known before it has.
  absl::Status why_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> greeting_ ABSL_GUARDED_BY(mutex_);
  std::deque<Outgoing> outgoing_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::unique_ptr<Asked>> asked_ ABSL_GUARDED_BY(mutex_);
  // Answers that the worker owes, its greeting among them, and since when it is silent.
  size_t owed_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::Time silent_since_ ABSL_GUARDED_BY(mutex_) = absl::Now();
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_segment_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint64_t, Fd> kept_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_LINK_H_
