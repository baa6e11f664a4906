#include "daemon/device/worker/ring.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status.h"

// An upload is in turns_ exactly while it has copies waiting. A copy waits until it is cut into
// pieces whole; it is answered when it is, and no piece of it is under way.

namespace weightd::device {

Ring::Ring(std::shared_ptr<const CudaContext> context, uint64_t bytes, Answers& answers)
    : context_(std::move(context)),
      slot_bytes_(std::max(kPageBytes, AlignDown(bytes / kSlots, kPageBytes))),
      answers_(answers) {}

absl::Status Ring::Prepare() {
  if (!threads_.empty()) {
    return absl::OkStatus();
  }
  for (size_t i = 0; i < kSlots; ++i) {
    absl::StatusOr<Slot> slot = MakeSlot(i);
    if (!slot.ok()) {
      FreeSlots();
      return Annotate(slot.status(), "pinned host memory to copy through");
    }
    slots_.push_back(*slot);
  }
  for (const Slot& slot : slots_) {
    threads_.emplace_back([this, &slot] { Run(slot); });
  }
  return absl::OkStatus();
}

absl::StatusOr<Ring::Slot> Ring::MakeSlot(size_t index) {
  const CudaDriver& driver = context_->driver();
  if (index < kStreams) {
    cuda::CUstream stream = nullptr;
    RETURN_IF_ERROR(driver.Check(driver.cuStreamCreate(&stream, cuda::CU_STREAM_NON_BLOCKING),
                                 "cuStreamCreate"));
    streams_.push_back(stream);
  }
  Slot slot{.stream = streams_[index % kStreams]};
  RETURN_IF_ERROR(driver.Check(driver.cuEventCreate(&slot.event, cuda::CU_EVENT_DISABLE_TIMING |
                                                                     cuda::CU_EVENT_BLOCKING_SYNC),
                               "cuEventCreate"));
  absl::Status allocated =
      driver.Check(driver.cuMemAllocHost(&slot.buffer, slot_bytes_), "cuMemAllocHost");
  if (!allocated.ok()) {
    driver.cuEventDestroy(slot.event);
    return allocated;
  }
  return slot;
}

void Ring::FreeSlots() {
  const CudaDriver& driver = context_->driver();
  for (const Slot& slot : slots_) {
    driver.cuMemFreeHost(slot.buffer);
    driver.cuEventDestroy(slot.event);
  }
  for (const cuda::CUstream stream : streams_) {
    driver.cuStreamDestroy(stream);
  }
  slots_.clear();
  streams_.clear();
}

void Ring::Add(uint64_t segment, std::shared_ptr<const UploadJob> job) {
  absl::MutexLock lock(&mutex_);
  lines_[segment].job = std::move(job);
}

void Ring::Copy(uint64_t segment, uint64_t request, ByteRange host, uint64_t source_offset) {
  Outcome outcome;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = lines_.find(segment);
    if (found == lines_.end()) {
      outcome.answers.emplace_back(request, Error(Reason::kInternal, "no such upload"));
    } else if (const uint64_t bytes = found->second.job->source_bytes();
               host.begin > host.end || host.size() > bytes ||
               source_offset > bytes - host.size()) {
      Fail(segment, found->second,
           Error(Reason::kInternal, absl::StrCat("bytes ", host.begin, " to ", host.end, " at ",
                                                 source_offset, " of a source of ", bytes)),
           outcome);
      outcome.answers.emplace_back(request, found->second.failure);
      CallIfIdle(found->second, outcome);
    } else if (!found->second.failure.ok()) {
      outcome.answers.emplace_back(request, found->second.failure);
    } else {
      if (found->second.waiting.empty()) {
        turns_.push_back(segment);
      }
      found->second.waiting.push_back(
          std::make_shared<Copying>(Copying{request, host, source_offset}));
    }
  }
  Tell(std::move(outcome));
}

void Ring::Abort(uint64_t segment, const absl::Status& why) {
  Outcome outcome;
  {
    absl::MutexLock lock(&mutex_);
    if (const auto found = lines_.find(segment); found != lines_.end()) {
      Fail(segment, found->second, why, outcome);
      CallIfIdle(found->second, outcome);
    }
  }
  Tell(std::move(outcome));
}

void Ring::WhenIdle(uint64_t segment, std::function<void()> then) {
  Outcome outcome;
  {
    absl::MutexLock lock(&mutex_);
    if (const auto found = lines_.find(segment); found == lines_.end()) {
      outcome.calls.push_back(std::move(then));
    } else {
      found->second.when_idle.push_back(std::move(then));
      CallIfIdle(found->second, outcome);
    }
  }
  Tell(std::move(outcome));
}

absl::Status Ring::Remove(uint64_t segment) {
  Line line;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = lines_.find(segment);
    if (found == lines_.end()) {
      return Error(Reason::kInternal, "no such upload");
    }
    line = std::move(found->second);
    lines_.erase(found);
  }
  RETURN_IF_ERROR(line.failure);
  if (line.copied != line.job->runs().bytes()) {
    return Error(Reason::kInternal, absl::StrCat(line.copied, " of ", line.job->runs().bytes(),
                                                 " bytes were copied to the GPU"));
  }
  return absl::OkStatus();
}

void Ring::Run(const Slot& slot) {
  const CudaContext::Current current(*context_);
  while (true) {
    Work work = Next();
    const absl::Status carried = Carry(slot, work);
    Done(std::move(work), carried);
  }
}

Ring::Work Ring::Next() {
  absl::MutexLock lock(&mutex_);
  const auto some = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !turns_.empty(); };
  mutex_.Await(absl::Condition(&some));
  Work work;
  work.segment = turns_.front();
  turns_.pop_front();
  Line& line = lines_.at(work.segment);
  work.job = line.job;
  work.copying = line.waiting.front();
  work.piece = work.job->runs().Cut(work.copying->rest, work.copying->source, slot_bytes_);
  ++work.copying->under_way;
  ++line.under_way;
  if (work.copying->rest.empty()) {
    line.waiting.pop_front();
  }
  if (!line.waiting.empty()) {
    turns_.push_back(work.segment);
  }
  return work;
}

absl::Status Ring::Carry(const Slot& slot, const Work& work) const {
  if (work.piece.parts.empty()) {
    return absl::OkStatus();
  }
  const CudaDriver& driver = context_->driver();
  absl::Status issued = Issue(slot, work);
  if (!issued.ok()) {
    // The GPU may still read what was issued before: neither slot nor source is free until then.
    driver.cuStreamSynchronize(slot.stream);
    return issued;
  }
  const absl::Status fetched =
      driver.Check(driver.cuEventSynchronize(slot.event), "cuEventSynchronize");
  if (!fetched.ok()) {
    driver.cuStreamSynchronize(slot.stream);
  }
  return fetched;
}

absl::Status Ring::Issue(const Slot& slot, const Work& work) const {
  const CudaDriver& driver = context_->driver();
  const std::byte* const source = work.job->source();
  const cuda::CUdeviceptr device = work.job->device() + work.piece.device_offset;
  if (work.job->pinned()) {
    for (const Piece::Part& part : work.piece.parts) {
      RETURN_IF_ERROR(driver.Check(
          driver.cuMemcpyHtoDAsync(device + part.at, source + part.source, part.bytes, slot.stream),
          "cuMemcpyHtoDAsync"));
    }
  } else {
    auto* const buffer = static_cast<std::byte*>(slot.buffer);
    uint64_t filled = 0;
    for (const Piece::Part& part : work.piece.parts) {
      std::memset(buffer + filled, 0, part.at - filled);
      std::memcpy(buffer + part.at, source + part.source, part.bytes);
      filled = part.at + part.bytes;
    }
    RETURN_IF_ERROR(
        driver.Check(driver.cuMemcpyHtoDAsync(device, buffer, work.piece.bytes, slot.stream),
                     "cuMemcpyHtoDAsync"));
  }
  return driver.Check(driver.cuEventRecord(slot.event, slot.stream), "cuEventRecord");
}

void Ring::Done(Work work, const absl::Status& status) {
  if (CudaDriver::NeedsProcessExit(status)) {
    answers_.SendLast(work.copying->request, status);
  }
  Outcome outcome;
  {
    absl::MutexLock lock(&mutex_);
    Line& line = lines_.at(work.segment);
    // Whoever sees the upload idle may let its source go: no thread holds it then.
    work.job.reset();
    --work.copying->under_way;
    --line.under_way;
    if (status.ok()) {
      line.copied += work.piece.part_bytes();
    } else {
      Fail(work.segment, line, status, outcome);
    }
    if (work.copying->rest.empty() && work.copying->under_way == 0) {
      outcome.answers.emplace_back(work.copying->request, line.failure);
    }
    CallIfIdle(line, outcome);
  }
  Tell(std::move(outcome));
}

void Ring::Fail(uint64_t segment, Line& line, const absl::Status& why, Outcome& outcome) {
  if (line.failure.ok()) {
    line.failure = why;
  }
  for (const std::shared_ptr<Copying>& copying : line.waiting) {
    copying->rest.begin = copying->rest.end;
    if (copying->under_way == 0) {
      outcome.answers.emplace_back(copying->request, line.failure);
    }
  }
  line.waiting.clear();
  turns_.erase(std::remove(turns_.begin(), turns_.end(), segment), turns_.end());
}

void Ring::CallIfIdle(Line& line, Outcome& outcome) {
  if (line.idle()) {
    std::move(line.when_idle.begin(), line.when_idle.end(), std::back_inserter(outcome.calls));
    line.when_idle.clear();
  }
}

void Ring::Tell(Outcome outcome) {
  for (const auto& [request, status] : outcome.answers) {
    answers_.Send(request, status);
  }
  for (const std::function<void()>& call : outcome.calls) {
    call();
  }
}

}  // namespace weightd::device
