#include "daemon/device/gpu.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/device/worker_process.h"

// idle -> running -> idle (drained or closed) or failed -> running. Only the keeper starts a worker
// and takes it away. Being the parent's thread for PR_SET_PDEATHSIG it outlives each of them.

namespace weightd::device {
namespace {

constexpr absl::Duration kBetweenStarts = absl::Seconds(1);

}  // namespace

Gpu::Gpu(const GpuFacts& facts, uint64_t budget, const GpusOptions& options, Lost lost)
    : facts_(facts),
      budget_(std::make_shared<Budget>(facts.id, budget)),
      options_(options),
      lost_(std::move(lost)),
      keeper_([this] { Keep(); }) {}

Gpu::~Gpu() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    if (link_ != nullptr) {
      link_->End();
    }
  }
  keeper_.join();
}

GpuStatus Gpu::status() const {
  GpuStatus status{.id = facts_.id,
                   .index = facts_.index,
                   .name = facts_.name,
                   .total_bytes = facts_.total_bytes,
                   .usage = budget_->usage(),
                   .last_error = {}};
  absl::MutexLock lock(&mutex_);
  status.last_error = std::string(failure_.message());
  if (link_ != nullptr && link_->usable()) {
    status.state = GpuStatus::State::kRunning;
    status.worker_pid = link_->pid();
  } else if (drained_) {
    status.state = GpuStatus::State::kDrained;
  } else if (!failure_.ok()) {
    status.state = GpuStatus::State::kFailed;
  }
  return status;
}

absl::StatusOr<std::shared_ptr<WorkerLink>> Gpu::Worker() {
  std::shared_ptr<WorkerLink> link;
  {
    absl::MutexLock lock(&mutex_);
    if (!drained_ && (link_ == nullptr || !link_->usable())) {
      wanted_ = true;
      const auto dealt_with = [this, before = attempts_]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return attempts_ != before || drained_;
      };
      mutex_.Await(absl::Condition(&dealt_with));
      RETURN_IF_ERROR(last_attempt_);
    }
    if (drained_) {
      return DrainedError();
    }
    link = link_;
  }
  if (link == nullptr) {
    return Error(Reason::kDeviceUnavailable, "the GPU's worker ended as soon as it began",
                 "try again; weightctl status says why it ended");
  }
  RETURN_IF_ERROR(link->AwaitReady());
  return link;
}

absl::StatusOr<Reservation> Gpu::Reserve(uint64_t bytes) {
  ASSIGN_OR_RETURN(Reservation reservation, budget_->Reserve(bytes));
  ASSIGN_OR_RETURN(const std::shared_ptr<WorkerLink> link, Worker());
  // All that was promised, this included, is still to come out of what is free. Looked at first:
  // what is allocated meanwhile counts twice rather than never.
  const uint64_t promised = budget_->unallocated();
  const uint64_t number = link->Send({.type = Request::Type::kMemory});
  if (absl::Status answered = link->Await(number); !answered.ok()) {
    link->Forget(number);
    return answered;
  }
  const Answer memory = link->TakeReply(number).answer;
  if (memory.free_bytes < options_.reserve || memory.free_bytes - options_.reserve < promised) {
    return Error(
        Reason::kDeviceMemoryShort,
        absl::StrCat(bytes, " bytes needed on ", facts_.id.ToText(), ", of whose ",
                     memory.total_bytes, " bytes ", memory.free_bytes,
                     " are free: ", options_.reserve, " of them stay free for others, ",
                     promised - reservation.bytes(), " are for other loads"),
        "see with nvidia-smi who uses the GPU; evict models from it, or lower gpu.reserve");
  }
  return reservation;
}

absl::Status Gpu::Drain() {
  absl::MutexLock lock(&mutex_);
  drained_ = true;
  if (link_ != nullptr) {
    link_->End();
  }
  const auto gone = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return link_ == nullptr; };
  mutex_.Await(absl::Condition(&gone));
  if (stuck_pid_ != 0) {
    return Error(Reason::kDeviceUnavailable,
                 absl::StrCat("the worker of ", facts_.id.ToText(), ", process ", stuck_pid_,
                              ", doesn't end: the driver holds it"),
                 "look at nvidia-smi and the kernel's log for the GPU's state");
  }
  return absl::OkStatus();
}

void Gpu::Resume() {
  absl::MutexLock lock(&mutex_);
  drained_ = false;
}

absl::Status Gpu::DrainedError() const {
  return Error(Reason::kDeviceUnavailable,
               absl::StrCat("GPU ", facts_.index, " (", facts_.id.ToText(), ") is drained"),
               absl::StrCat("weightctl resume --gpu ", facts_.index, " takes it into use again"));
}

void Gpu::Keep() {
  while (AwaitWish()) {
    const absl::StatusOr<std::shared_ptr<WorkerLink>> link = Start();
    if (!link.ok()) {
      continue;
    }
    (*link)->Serve();
    const absl::Status why = (*link)->why_ended();
    if (NoteEnd(**link, why)) {
      lost_(facts_.id, why);
    }
  }
}

bool Gpu::AwaitWish() {
  absl::MutexLock lock(&mutex_);
  const auto wished = [this]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closing_ || wanted_; };
  mutex_.Await(absl::Condition(&wished));
  mutex_.AwaitWithDeadline(absl::Condition(&closing_), not_before_);
  return !closing_;
}

absl::StatusOr<std::shared_ptr<WorkerLink>> Gpu::Start() {
  absl::MutexLock lock(&mutex_);
  // Only the fork is made under the lock: that waits for nobody.
  absl::StatusOr<std::shared_ptr<WorkerLink>> link = DrainedError();
  if (!drained_ && !closing_) {
    absl::StatusOr<WorkerProcess> process = WorkerProcess::Start(
        options_.worker_command, absl::StrCat("weightd-gpu ", facts_.index),
        {"serve", facts_.id.ToText(), options_.driver, absl::StrCat(options_.ring)});
    if (process.ok()) {
      link = std::make_shared<WorkerLink>(*std::move(process), options_.patience);
      link_ = *link;
      stuck_pid_ = 0;
    } else {
      link = process.status();
      failure_ = process.status();
      not_before_ = absl::Now() + kBetweenStarts;
    }
  }
  wanted_ = false;
  ++attempts_;
  last_attempt_ = link.status();
  return link;
}

bool Gpu::NoteEnd(const WorkerLink& link, const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  link_ = nullptr;
  if (!link.gone()) {
    stuck_pid_ = link.pid();
  }
  if (link.was_told_to_end()) {
    failure_ = absl::OkStatus();
    return false;
  }
  failure_ = why;
  not_before_ = absl::Now() + kBetweenStarts;
  return link.was_ready();
}

}  // namespace weightd::device
