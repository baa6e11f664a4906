#include "daemon/device/worker_link.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status.h"

// The serving thread alone uses the process and its socket. Others put packets into `outgoing_` and
// wake it: nobody waits for the worker under the lock. Lock order: this one, then Budget's.

namespace weightd::device {
namespace {

constexpr absl::string_view kTryAgain = "try again: the next use of the GPU starts another worker";
// From the request to end to the use of force, and from there to giving up on the process.
constexpr absl::Duration kGrace = absl::Seconds(3);
constexpr absl::Duration kDeath = absl::Seconds(10);

bool WouldBlock(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable;
}

}  // namespace

WorkerLink::WorkerLink(WorkerProcess process, absl::Duration patience)
    : process_(std::move(process)),
      pid_(process_.pid()),
      patience_(patience),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void WorkerLink::Wake() {
  const uint64_t one = 1;
  // Fails only when it is readable already.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

void WorkerLink::Serve() {
  bool talking = true;
  while (talking) {
    const auto [timeout, sending] = NextWait();
    std::array<pollfd, 3> polled = {
        pollfd{process_.socket(), static_cast<int16_t>(sending ? POLLIN | POLLOUT : POLLIN), 0},
        pollfd{wake_.get(), POLLIN, 0}, pollfd{process_.pidfd(), POLLIN, 0}};
    if (poll(polled.data(), polled.size(), timeout) < 0 && errno != EINTR) {
      break;
    }
    uint64_t wakes = 0;
    [[maybe_unused]] const ssize_t drained = read(wake_.get(), &wakes, sizeof(wakes));
    talking = ReceiveAll() && polled[2].revents == 0 && !TooSilent();
    if (talking && was_told_to_end()) {
      process_.HangUp();
      process_.WaitFor(kGrace);
      talking = false;
    }
    if (talking) {
      SendQueued();
    }
  }
  process_.Kill();
  gone_ = process_.WaitFor(kDeath);
  // What it said before it died.
  ReceiveAll();
  NoteEnd();
}

void WorkerLink::End() {
  {
    absl::MutexLock lock(&mutex_);
    told_to_end_ = true;
  }
  Wake();
}

std::pair<int, bool> WorkerLink::NextWait() {
  absl::MutexLock lock(&mutex_);
  int timeout = -1;
  if (owed_ > 0) {
    const absl::Duration left = silent_since_ + patience_ - absl::Now();
    timeout = static_cast<int>(std::max<int64_t>(0, absl::ToInt64Milliseconds(left) + 1));
  }
  return {timeout, !outgoing_.empty()};
}

bool WorkerLink::TooSilent() {
  absl::MutexLock lock(&mutex_);
  if (owed_ == 0 || absl::Now() - silent_since_ < patience_) {
    return false;
  }
  why_ = Error(Reason::kDeviceUnavailable,
               absl::StrCat("the GPU's worker (process ", pid_, ") said nothing for ",
                            absl::FormatDuration(patience_), ": the driver hangs"),
               "look at nvidia-smi and the kernel's log for the GPU's state");
  return true;
}

void WorkerLink::SendQueued() {
  absl::MutexLock lock(&mutex_);
  while (!outgoing_.empty()) {
    const Outgoing& packet = outgoing_.front();
    std::vector<int> fds;
    fds.reserve(packet.fds.size());
    for (const Fd& fd : packet.fds) {
      fds.push_back(fd.get());
    }
    if (!SendPacket(process_.socket(), packet.bytes, fds).ok()) {
      return;  // until the socket has room, or its end is seen
    }
    outgoing_.pop_front();
  }
}

bool WorkerLink::ReceiveAll() {
  // A worker that died with requests unread is told once as ECONNRESET, before what it had sent.
  int errors = 0;
  while (errors < 2) {
    absl::StatusOr<Packet> packet = ReceivePacket(process_.socket(), true);
    if (!packet.ok()) {
      if (WouldBlock(packet.status())) {
        return errors == 0;
      }
      ++errors;
      continue;
    }
    if (packet->bytes.empty()) {
      return false;
    }
    if (const absl::Status taken = Receive(*std::move(packet)); !taken.ok()) {
      absl::MutexLock lock(&mutex_);
      why_ = Error(Reason::kDeviceUnavailable,
                   absl::StrCat("the GPU's worker talks nonsense: ", taken.message()), kTryAgain);
      return false;
    }
  }
  return false;
}

absl::Status WorkerLink::Receive(Packet packet) {
  ASSIGN_OR_RETURN(const Answer answer, AnswerOf(packet.bytes));
  if (packet.fds.size() > 1) {
    return Error(Reason::kInternal, "an answer with several descriptors");
  }
  absl::MutexLock lock(&mutex_);
  silent_since_ = absl::Now();
  if (answer.last != 0) {
    why_ = Error(Reason::kDeviceUnavailable,
                 absl::StrCat("the GPU's worker ended: ", StatusOf(answer).message()), kTryAgain);
  }
  if (answer.number == 0) {
    if (greeting_.has_value()) {
      return Error(Reason::kInternal, "a second greeting");
    }
    --owed_;
    greeting_ = StatusOf(answer);
    return absl::OkStatus();
  }
  const auto found = asked_.find(answer.number);
  if (found == asked_.end() || found->second->reply.has_value()) {
    return Error(Reason::kInternal, absl::StrCat("an answer to ", answer.number));
  }
  Answered(*found->second,
           Reply{answer, packet.fds.empty() ? Fd() : std::move(packet.fds.front())});
  if (found->second->forgotten) {
    asked_.erase(found);
  }
  return absl::OkStatus();
}

void WorkerLink::Answered(Asked& asked, Reply reply) {
  --owed_;
  const bool allocates =
      asked.type == Request::Type::kCreate || asked.type == Request::Type::kImport;
  if (allocates && reply.answer.reason == 0) {
    asked.charge.MarkAllocated();
  }
  if (asked.type == Request::Type::kFree) {
    asked.charge.GiveBack();
  }
  asked.reply = std::move(reply);
}

void WorkerLink::NoteEnd() {
  absl::MutexLock lock(&mutex_);
  if (told_to_end_) {
    why_ = Error(Reason::kDeviceUnavailable, "the GPU's worker was ended", kTryAgain);
  } else if (why_.ok()) {
    why_ = Error(Reason::kDeviceUnavailable,
                 gone_ ? absl::StrCat("the GPU's worker ", process_.how_it_ended())
                       : absl::StrCat("the GPU's worker (process ", pid_, ") can't be killed"),
                 kTryAgain);
  }
  ended_ = true;
  outgoing_.clear();
  kept_.clear();
  for (auto& [number, asked] : asked_) {
    if (asked->type == Request::Type::kFree) {
      asked->charge.GiveBack();
    }
  }
}

bool WorkerLink::was_told_to_end() const {
  absl::MutexLock lock(&mutex_);
  return told_to_end_;
}

bool WorkerLink::was_ready() const {
  absl::MutexLock lock(&mutex_);
  return greeting_.has_value() && greeting_->ok();
}

bool WorkerLink::ended() const {
  absl::MutexLock lock(&mutex_);
  return ended_;
}

bool WorkerLink::usable() const {
  absl::MutexLock lock(&mutex_);
  return !ended_ && !told_to_end_ && why_.ok();
}

absl::Status WorkerLink::why_ended() const {
  absl::MutexLock lock(&mutex_);
  return ended_ ? why_ : absl::OkStatus();
}

absl::Status WorkerLink::AwaitReady() {
  absl::MutexLock lock(&mutex_);
  const auto told = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ended_ || greeting_.has_value();
  };
  mutex_.Await(absl::Condition(&told));
  if (greeting_.has_value() && !greeting_->ok()) {
    return *greeting_;
  }
  return ended_ ? why_ : absl::OkStatus();
}

uint64_t WorkerLink::Send(Request request, std::vector<Fd> fds, Reservation charge) {
  uint64_t number = 0;
  {
    absl::MutexLock lock(&mutex_);
    number = ++last_number_;
    request.number = number;
    auto asked = std::make_unique<Asked>();
    asked->type = request.type;
    // What an ended worker had is free.
    if (!ended_ || request.type != Request::Type::kFree) {
      asked->charge = std::move(charge);
    }
    asked_.emplace(number, std::move(asked));
    if (!ended_) {
      if (owed_++ == 0) {
        silent_since_ = absl::Now();
      }
      outgoing_.push_back({std::string(BytesOf(request)), std::move(fds)});
    }
  }
  Wake();
  return number;
}

absl::Status WorkerLink::Await(uint64_t number) {
  Cancellation never;
  return Await(number, never);
}

absl::Status WorkerLink::Await(uint64_t number, Cancellation& cancellation) {
  // Not asked of the Cancellation under our lock: it holds its own while it wakes us.
  bool cancelled = false;
  const Cancellation::Registration registration = cancellation.OnCancel([this, &cancelled] {
    absl::MutexLock lock(&mutex_);
    cancelled = true;
  });
  absl::ReleasableMutexLock lock(&mutex_);
  const auto found = asked_.find(number);
  if (found == asked_.end()) {
    return Error(Reason::kInternal, absl::StrCat("nothing was asked of the GPU as ", number));
  }
  const Asked& asked = *found->second;
  const auto decided = [this, &asked, &cancelled]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return asked.reply.has_value() || ended_ || cancelled;
  };
  mutex_.Await(absl::Condition(&decided));
  if (asked.reply.has_value()) {
    return StatusOf(asked.reply->answer);
  }
  if (ended_) {
    return why_;
  }
  lock.Release();
  return cancellation.status();
}

WorkerLink::Reply WorkerLink::TakeReply(uint64_t number) {
  absl::MutexLock lock(&mutex_);
  const auto found = asked_.find(number);
  Reply reply = *std::move(found->second->reply);
  asked_.erase(found);
  return reply;
}

Reservation WorkerLink::TakeCharge(uint64_t number) {
  absl::MutexLock lock(&mutex_);
  return std::move(asked_.at(number)->charge);
}

void WorkerLink::Forget(uint64_t number) {
  absl::MutexLock lock(&mutex_);
  const auto found = asked_.find(number);
  if (found == asked_.end()) {
    return;
  }
  if (found->second->reply.has_value() || ended_) {
    asked_.erase(found);
  } else {
    found->second->forgotten = true;
  }
}

uint64_t WorkerLink::NewSegment() {
  absl::MutexLock lock(&mutex_);
  return ++last_segment_;
}

void WorkerLink::Keep(uint64_t segment, Fd exported) {
  absl::MutexLock lock(&mutex_);
  if (!ended_) {
    kept_[segment] = std::move(exported);
  }
}

absl::StatusOr<Fd> WorkerLink::Duplicate(uint64_t segment) {
  absl::MutexLock lock(&mutex_);
  const auto found = kept_.find(segment);
  if (found == kept_.end()) {
    return ended_ ? why_ : Error(Reason::kInternal, "this GPU segment has no descriptor");
  }
  return found->second.Duplicate();
}

Fd WorkerLink::TakeKept(uint64_t segment) {
  absl::MutexLock lock(&mutex_);
  const auto found = kept_.find(segment);
  if (found == kept_.end()) {
    return Fd();
  }
  Fd fd = std::move(found->second);
  kept_.erase(found);
  return fd;
}

void WorkerLink::Free(uint64_t segment, Reservation charge, bool wait) {
  TakeKept(segment);
  const uint64_t number =
      Send({.type = Request::Type::kFree, .segment = segment}, {}, std::move(charge));
  if (wait) {
    // It fails only with the worker, whose memory is free then.
    Await(number).IgnoreError();
  }
  Forget(number);
}

absl::Status WorkerLink::Disown(uint64_t segment) {
  const uint64_t number = Send({.type = Request::Type::kFree, .segment = segment});
  const absl::Status disowned = Await(number);
  Forget(number);
  return disowned;
}

}  // namespace weightd::device
