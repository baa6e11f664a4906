#include "daemon/device/worker/worker.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/cuda_driver.h"
#include "common/status.h"
#include "daemon/device/runs.h"

namespace weightd::device {
namespace {

absl::Status CheckMarkPlace(const Request& request) {
  const bool inside = request.mark_offset <= request.device_bytes &&
                      request.device_bytes - request.mark_offset >= sizeof(request.segment_mark);
  return inside ? absl::OkStatus()
                : Error(Reason::kInternal, "a mark that lies outside of its GPU segment");
}

}  // namespace

Worker::Worker(const GpuId& gpu, std::string driver, uint64_t ring_bytes, Answers& answers)
    : gpu_(gpu),
      library_(std::move(driver)),
      ring_bytes_(ring_bytes),
      answers_(answers),
      operator_([this] { Operate(); }) {}

void Worker::Take(const Request& request, std::vector<Fd> fds) {
  switch (request.type) {
    case Request::Type::kMemory:
      return Post([this, request] { AnswerMemory(request); });
    case Request::Type::kCreate: {
      // std::function wants what it holds to be copyable.
      const auto shared = std::make_shared<std::vector<Fd>>(std::move(fds));
      return Post([this, request, shared] {
        const absl::Status created = Create(request, *shared);
        shared->clear();
        answers_.Send(request.number, created);
      });
    }
    case Request::Type::kImport: {
      const auto shared = std::make_shared<std::vector<Fd>>(std::move(fds));
      return Post([this, request, shared] {
        const absl::Status imported = Import(request, *shared);
        shared->clear();
        answers_.Send(request.number, imported);
      });
    }
    case Request::Type::kCopy:
      return ring_->Copy(request.segment, request.number, {request.host_begin, request.host_end},
                         request.source_offset);
    case Request::Type::kFinish:
      return ring_->WhenIdle(request.segment,
                             [this, request] { Post([this, request] { Finish(request); }); });
    case Request::Type::kFree:
      // Through the operator: a create that was sent before has been made then.
      return Post([this, request] {
        ring_->Abort(request.segment, Error(Reason::kCancelled, "the upload was given up"));
        ring_->WhenIdle(request.segment,
                        [this, request] { Post([this, request] { Free(request); }); });
      });
  }
  answers_.SendLast(request.number, Error(Reason::kInternal, "a GPU request of no known kind"));
}

void Worker::Post(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
}

void Worker::Operate() {
  const absl::Status opened = Open();
  if (!opened.ok()) {
    answers_.SendLast(0, opened);
  }
  const CudaContext::Current current(*context_);
  answers_.Send(0, absl::OkStatus());
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mutex_);
      const auto some = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !tasks_.empty(); };
      mutex_.Await(absl::Condition(&some));
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

absl::Status Worker::Open() {
  ASSIGN_OR_RETURN(const std::shared_ptr<const CudaDriver> driver, CudaDriver::Load(library_));
  ASSIGN_OR_RETURN(context_, CudaContext::Retain(driver, gpu_));
  const CudaContext::Current current(*context_);
  RETURN_IF_ERROR(driver->Check(driver->cuStreamCreate(&stream_, cuda::CU_STREAM_NON_BLOCKING),
                                "cuStreamCreate"));
  RETURN_IF_ERROR(driver->Check(
      driver->cuEventCreate(&event_, cuda::CU_EVENT_DISABLE_TIMING | cuda::CU_EVENT_BLOCKING_SYNC),
      "cuEventCreate"));
  ring_.emplace(context_, ring_bytes_, answers_);
  return absl::OkStatus();
}

void Worker::AnswerMemory(const Request& request) {
  size_t free = 0;
  size_t total = 0;
  const absl::Status asked =
      context_->driver().Check(context_->driver().cuMemGetInfo(&free, &total), "cuMemGetInfo");
  Answer answer = MakeAnswer(request.number, asked);
  answer.free_bytes = free;
  answer.total_bytes = total;
  answers_.Send(answer, asked);
}

absl::Status Worker::Create(const Request& request, const std::vector<Fd>& fds) {
  const bool filling = fds.size() == 2;
  const auto copied = segments_.find(request.copied);
  if (segments_.contains(request.segment) || (!filling && copied == segments_.end())) {
    return Error(Reason::kInternal, "a GPU segment that is there, or a copy of one that isn't");
  }
  Runs runs;
  if (filling) {
    ASSIGN_OR_RETURN(std::vector<CopyRun> list, ReadRuns(fds[1], request.runs));
    ASSIGN_OR_RETURN(runs, Runs::Make(std::move(list), request.device_bytes));
    RETURN_IF_ERROR(ring_->Prepare());
  }
  Allocation allocation{.memory = {}, .legacy = request.legacy != 0, .filling = filling};
  ASSIGN_OR_RETURN(allocation.memory, allocation.legacy
                                          ? CudaMemory::Allocate(context_, request.device_bytes)
                                          : CudaMemory::Create(context_, request.device_bytes));
  if (filling) {
    RETURN_IF_ERROR(Clear(allocation.memory, runs));
    RETURN_IF_ERROR(Mark(allocation.memory, request));
    ASSIGN_OR_RETURN(
        auto job, UploadJob::Create(context_, allocation.memory.pointer(), std::move(runs), fds[0],
                                    request.source_bytes, request.pin_source != 0));
    ring_->Add(request.segment, std::move(job));
  } else {
    RETURN_IF_ERROR(CopyOnDevice(copied->second.memory, allocation.memory));
  }
  segments_.emplace(request.segment, std::move(allocation));
  return absl::OkStatus();
}

absl::Status Worker::Clear(const CudaMemory& memory, const Runs& runs) const {
  // Fresh memory may hold what this process freed: another model, which not everybody may see.
  const CudaDriver& driver = context_->driver();
  for (const ByteRange& gap : runs.DeviceGaps(memory.bytes())) {
    RETURN_IF_ERROR(
        driver.Check(driver.cuMemsetD8(memory.pointer() + gap.begin, 0, gap.size()), "cuMemsetD8"));
  }
  // On the default stream, for which those of the ring don't wait.
  return driver.Check(driver.cuStreamSynchronize(nullptr), "cuStreamSynchronize");
}

absl::Status Worker::Mark(const CudaMemory& memory, const Request& request) const {
  if (request.marked == 0) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(CheckMarkPlace(request));
  const CudaDriver& driver = context_->driver();
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemcpyHtoD(memory.pointer() + request.mark_offset, request.segment_mark,
                                       sizeof(request.segment_mark)),
                   "cuMemcpyHtoD"));
  // From memory that isn't pinned the call may return before the bytes are there.
  return driver.Check(driver.cuStreamSynchronize(nullptr), "cuStreamSynchronize");
}

absl::Status Worker::Import(const Request& request, const std::vector<Fd>& fds) {
  if (segments_.contains(request.segment) || fds.size() != 1) {
    return Error(Reason::kInternal, "a GPU segment that is there, or no descriptor of one");
  }
  RETURN_IF_ERROR(CheckMarkPlace(request));
  Allocation allocation;
  ASSIGN_OR_RETURN(allocation.memory,
                   CudaMemory::ImportUnproven(context_, fds[0].get(), request.device_bytes));
  char mark[kMarkBytes] = {};
  const CudaDriver& driver = context_->driver();
  RETURN_IF_ERROR(driver.Check(
      driver.cuMemcpyDtoH(mark, allocation.memory.pointer() + request.mark_offset, sizeof(mark)),
      "cuMemcpyDtoH"));
  if (std::memcmp(mark, request.segment_mark, sizeof(mark)) != 0) {
    return Error(Reason::kVerificationFailed, "memory of something else: its mark is missing");
  }
  segments_.emplace(request.segment, std::move(allocation));
  return absl::OkStatus();
}

absl::Status Worker::CopyOnDevice(const CudaMemory& from, const CudaMemory& to) const {
  if (from.bytes() < to.bytes()) {
    return Error(Reason::kInternal,
                 absl::StrCat("a copy of ", to.bytes(), " bytes of a segment of ", from.bytes()));
  }
  const CudaDriver& driver = context_->driver();
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemcpyDtoDAsync(to.pointer(), from.pointer(), to.bytes(), stream_),
                   "cuMemcpyDtoDAsync"));
  const absl::Status recorded =
      driver.Check(driver.cuEventRecord(event_, stream_), "cuEventRecord");
  const absl::Status copied =
      recorded.ok() ? driver.Check(driver.cuEventSynchronize(event_), "cuEventSynchronize")
                    : recorded;
  if (!copied.ok()) {
    // Both allocations are used until then.
    driver.cuStreamSynchronize(stream_);
  }
  return copied;
}

void Worker::Finish(const Request& request) {
  Answer answer;
  Fd exported;
  const absl::Status finished = Export(request, answer, exported);
  if (!finished.ok()) {
    answer = MakeAnswer(request.number, finished);
  }
  answer.number = request.number;
  answers_.Send(answer, finished, std::move(exported));
}

absl::Status Worker::Export(const Request& request, Answer& answer, Fd& exported) {
  const auto found = segments_.find(request.segment);
  if (found == segments_.end()) {
    return Error(Reason::kInternal, "no such GPU segment");
  }
  Allocation& allocation = found->second;
  if (std::exchange(allocation.filling, false)) {
    RETURN_IF_ERROR(ring_->Remove(request.segment));
  }
  if (allocation.legacy) {
    ASSIGN_OR_RETURN(const cuda::CUipcMemHandle handle, allocation.memory.LegacyHandle());
    std::memcpy(answer.legacy_handle, handle.reserved, sizeof(answer.legacy_handle));
    answer.has_legacy_handle = 1;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(exported, allocation.memory.Export());
  return absl::OkStatus();
}

void Worker::Free(const Request& request) {
  const auto found = segments_.find(request.segment);
  if (found != segments_.end()) {
    if (found->second.filling) {
      // Why it failed is told already.
      ring_->Remove(request.segment).IgnoreError();
    }
    segments_.erase(found);
  }
  answers_.Send(request.number, absl::OkStatus());
}

}  // namespace weightd::device
