#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/source/file/read_steps.h"
#include "daemon/source/file/step_in_progress.h"

namespace weightd::source {
namespace {

// Steps in flight.
constexpr unsigned kDepth = 16;
// How long a cancellation may go unnoticed.
constexpr __kernel_timespec kTick = {.tv_sec = 0, .tv_nsec = 50'000'000};

// Between looks at reads in flight while the kernel takes no calls for the ring.
constexpr absl::Duration kRetryPause = absl::Milliseconds(1);

absl::Status Refused(int error_number) {
  return Error(Reason::kUnsupported,
               absl::StrCat("io_uring is refused (errno ", error_number, ")"));
}

// The ring and the steps in it. Every step that was submitted is waited for, whatever happens.
class RingReader {
 public:
  RingReader(const StepReads& reads, io_uring* ring)
      : reads_(reads), ring_(ring), slots_(kDepth), free_() {
    for (StepInProgress& slot : slots_) {
      free_.push_back(&slot);
    }
  }

  absl::Status Run() {
    while (true) {
      if (status_.ok()) {
        status_ = reads_.cancellation->status();
      }
      while (status_.ok() && !free_.empty() && next_ < reads_.steps.size()) {
        const ReadStep& step = reads_.steps[next_++];
        StepInProgress* const slot = free_.back();
        free_.pop_back();
        status_ = slot->Start(&reads_.files[step.file], &step);
        if (!status_.ok()) {
          free_.push_back(slot);
          break;
        }
        Ask(slot);
      }
      if (free_.size() == slots_.size()) {
        return status_;
      }
      io_uring_cqe* ignored = nullptr;
      __kernel_timespec tick = kTick;
      const int submitted = io_uring_submit_and_wait_timeout(ring_, &ignored, 1, &tick, nullptr);
      TakeAnswers();
      if (submitted < 0 && !PassesByItself(-submitted)) {
        const bool none_in_flight = slots_.size() - free_.size() == io_uring_sq_ready(ring_);
        if (none_in_flight && !answered_ && status_.ok()) {
          return Refused(-submitted);
        }
        status_.Update(ErrnoError(-submitted, "ask the kernel's ring to read"));
        if (none_in_flight) {
          return status_;
        }
        absl::SleepFor(kRetryPause);  // what is in flight ends without us
      }
    }
  }

 private:
  // What the next turn tries again; ETIME is the tick.
  static bool PassesByItself(int error_number) {
    return error_number == EINTR || error_number == EAGAIN || error_number == EBUSY ||
           error_number == ETIME;
  }

  void Ask(StepInProgress* slot) {
    // Never null: the ring has an entry for every slot.
    io_uring_sqe* const entry = io_uring_get_sqe(ring_);
    io_uring_prep_read(entry, slot->fd(), slot->target(), slot->bytes_left(), slot->offset());
    io_uring_sqe_set_data(entry, slot);
  }

  void TakeAnswers() {
    io_uring_cqe* answer = nullptr;
    while (io_uring_peek_cqe(ring_, &answer) == 0) {
      auto* const slot = static_cast<StepInProgress*>(io_uring_cqe_get_data(answer));
      const int result = answer->res;
      answered_ = true;
      io_uring_cqe_seen(ring_, answer);
      const absl::StatusOr<bool> done = slot->Take(result);
      if (done.ok() && !*done && status_.ok()) {
        Ask(slot);
        continue;
      }
      free_.push_back(slot);
      if (!done.ok()) {
        status_.Update(done.status());
      } else if (*done) {
        reads_.on_done(slot->step());
      }
    }
  }

  const StepReads& reads_;
  io_uring* const ring_;
  std::vector<StepInProgress> slots_;
  std::vector<StepInProgress*> free_;
  size_t next_ = 0;
  bool answered_ = false;
  absl::Status status_;
};

}  // namespace

absl::Status ReadWithUring(const StepReads& reads) {
  io_uring ring;
  if (const int error = io_uring_queue_init(kDepth, &ring, 0); error < 0) {
    return Refused(-error);
  }
  const absl::Status status = RingReader(reads, &ring).Run();
  io_uring_queue_exit(&ring);
  return status;
}

}  // namespace weightd::source
