#include "tests/fakes/fake_gpus.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/mapping.h"
#include "common/status.h"
#include "tests/fakes/fake_segment.h"
#include "tests/fakes/fake_upload.h"

namespace weightd::fakes {
namespace {

using device::CopyRun;
using device::GpuStatus;
using device::Handles;

constexpr size_t kLegacyHandleBytes = 64;

absl::Status CheckRuns(std::vector<CopyRun> runs, uint64_t device_bytes) {
  const auto bad = [] { return Error(Reason::kInternal, "runs overlap, or leave the segment"); };
  uint64_t end = 0;
  for (const CopyRun& run : runs) {
    if (run.host.begin < end || run.host.empty()) {
      return bad();
    }
    end = run.host.end;
  }
  std::sort(runs.begin(), runs.end(),
            [](const CopyRun& a, const CopyRun& b) { return a.device_offset < b.device_offset; });
  end = 0;
  for (const CopyRun& run : runs) {
    if (run.device_offset < end || run.device_offset + run.host.size() > device_bytes) {
      return bad();
    }
    end = run.device_offset + run.host.size();
  }
  return absl::OkStatus();
}

}  // namespace

GpuId MakeGpuId(int number) {
  std::array<uint8_t, GpuId::kBytes> bytes = {};
  bytes.fill(static_cast<uint8_t>(number));
  return GpuId(bytes);
}

FakeGpus::FakeGpus(const std::vector<std::pair<GpuId, uint64_t>>& gpus) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, bytes] : gpus) {
    const int index = static_cast<int>(gpus_.size());
    gpus_[id].index = index;
    gpus_[id].budget = std::make_shared<device::Budget>(id, bytes);
  }
}

FakeGpus::~FakeGpus() = default;

std::string FakeGpus::Bytes(const device::Segment& segment) {
  return dynamic_cast<const FakeSegment&>(segment).memory();
}

std::vector<GpuStatus> FakeGpus::List() const {
  absl::MutexLock lock(&mutex_);
  std::vector<GpuStatus> list(gpus_.size());
  for (const auto& [id, gpu] : gpus_) {
    const device::Usage usage = gpu.budget->usage();
    list[static_cast<size_t>(gpu.index)] = {
        .id = id,
        .index = gpu.index,
        .name = "Fake GPU",
        .total_bytes = 2 * usage.budget,
        .usage = usage,
        .state = gpu.state,
        .worker_pid = gpu.state == GpuStatus::State::kRunning ? 1000 + gpu.worker : 0,
        .last_error = gpu.last_error};
  }
  return list;
}

absl::StatusOr<GpuId> FakeGpus::Find(absl::string_view name) const {
  absl::MutexLock lock(&mutex_);
  const absl::StatusOr<GpuId> wanted = GpuId::FromText(name);
  int index = 0;
  const bool by_index = absl::SimpleAtoi(name, &index);
  for (const auto& [id, gpu] : gpus_) {
    if (by_index ? gpu.index == index : wanted.ok() && id == *wanted) {
      return id;
    }
  }
  return Error(Reason::kDeviceUnavailable, absl::StrCat("no GPU ", name), "weightctl status");
}

absl::StatusOr<device::Reservation> FakeGpus::Reserve(const GpuId& gpu, uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckUsable(gpu));
  RETURN_IF_ERROR(gpus_.at(gpu).reserve_error);
  return gpus_.at(gpu).budget->Reserve(bytes);
}

device::Usage FakeGpus::UsageOf(const GpuId& gpu) const {
  absl::MutexLock lock(&mutex_);
  const auto found = gpus_.find(gpu);
  return found == gpus_.end() ? device::Usage() : found->second.budget->usage();
}

absl::StatusOr<std::unique_ptr<device::Upload>> FakeGpus::BeginUpload(device::UploadPlan plan) {
  RETURN_IF_ERROR(CheckRuns(plan.runs, plan.device_bytes));
  if (plan.reservation.bytes() < plan.device_bytes + plan.mark.size()) {
    return Error(Reason::kInternal, "an upload beyond its reservation");
  }
  // A worker maps a window writable to pin it: a read-only descriptor is refused here.
  ASSIGN_OR_RETURN(Mapping source,
                   Mapping::Map(plan.source.get(), plan.source_bytes,
                                plan.pin_source ? Mapping::Access::kSharedWritable
                                                : Mapping::Access::kSharedReadOnly));
  int worker = 0;
  bool late = false;
  bool held = false;
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(CheckUsable(plan.reservation.gpu()));
    Gpu& gpu = gpus_.at(plan.reservation.gpu());
    RETURN_IF_ERROR(gpu.begin_error);
    gpu.state = GpuStatus::State::kRunning;
    worker = gpu.worker;
    late = late_;
    held = held_;
    ++uploads_;
  }
  return std::make_unique<FakeUpload>(this, worker, std::move(plan), std::move(source), late, held);
}

absl::StatusOr<std::shared_ptr<device::Segment>> FakeGpus::CopyPrivately(
    device::PrivateCopyPlan plan, Cancellation& cancellation) {
  RETURN_IF_ERROR(PassGate(cancellation));
  int worker = 0;
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(CheckUsable(plan.reservation.gpu()));
    Gpu& gpu = gpus_.at(plan.reservation.gpu());
    RETURN_IF_ERROR(gpu.private_error);
    gpu.state = GpuStatus::State::kRunning;
    worker = gpu.worker;
    ++private_copies_;
  }
  std::string memory(plan.device_bytes, kUntouched);
  if (plan.copied != nullptr) {
    if (plan.copied->gpu() != plan.reservation.gpu() || plan.copied->lost()) {
      return Error(Reason::kDeviceUnavailable, "what is to be copied is not on that GPU");
    }
    memory = Bytes(*plan.copied);
  } else {
    RETURN_IF_ERROR(CheckRuns(plan.runs, plan.device_bytes));
    ASSIGN_OR_RETURN(const Mapping source, Mapping::Map(plan.source.get(), plan.source_bytes,
                                                        Mapping::Access::kSharedReadOnly));
    for (const CopyRun& run : plan.runs) {
      memcpy(memory.data() + run.device_offset, source.data() + run.host.begin, run.host.size());
    }
  }
  return std::make_shared<FakeSegment>(this, worker, std::move(memory), /*mark=*/"",
                                       Handles::kDescriptor,
                                       /*is_private=*/true, std::move(plan.reservation));
}

absl::StatusOr<device::Reservation> FakeGpus::ReserveHeld(const GpuId& gpu, uint64_t device_bytes) {
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckUsable(gpu));
  ASSIGN_OR_RETURN(device::Reservation reservation,
                   gpus_.at(gpu).budget->Reserve(device_bytes + device::kMarkBytes));
  reservation.MarkAllocated();
  return reservation;
}

absl::StatusOr<std::shared_ptr<device::Segment>> FakeGpus::Import(device::ImportPlan& plan,
                                                                  Cancellation& cancellation) {
  RETURN_IF_ERROR(PassGate(cancellation));
  const GpuId gpu_id = plan.reservation.gpu();
  RETURN_IF_ERROR(AwaitImports(gpu_id, cancellation));
  int worker = 0;
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(CheckUsable(gpu_id));
    Gpu& gpu = gpus_.at(gpu_id);
    RETURN_IF_ERROR(gpu.import_error);
    gpu.state = GpuStatus::State::kRunning;
    worker = gpu.worker;
    gpu.worker += std::exchange(gpu.loses_import, false) ? 1 : 0;
    ++imports_;
  }
  const std::string tail = absl::StrCat(plan.mark, gpu_id.ToBytes());
  std::string memory(plan.device_bytes + tail.size() + 1, '\0');
  const ssize_t got = pread(plan.exported.get(), memory.data(), memory.size(), 0);
  memory.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (memory.size() != plan.device_bytes + tail.size() || !absl::EndsWith(memory, tail)) {
    return Error(Reason::kVerificationFailed, "memory of something else");
  }
  memory.resize(plan.device_bytes);
  return std::make_shared<FakeSegment>(this, worker, std::move(memory), plan.mark,
                                       Handles::kDescriptor, /*is_private=*/false,
                                       std::move(plan.reservation));
}

absl::Status FakeGpus::Drain(const GpuId& gpu) {
  absl::MutexLock lock(&mutex_);
  const auto found = gpus_.find(gpu);
  if (found == gpus_.end()) {
    return Error(Reason::kDeviceUnavailable, "no such GPU");
  }
  ++found->second.worker;
  found->second.state = GpuStatus::State::kDrained;
  return absl::OkStatus();
}

absl::Status FakeGpus::Resume(const GpuId& gpu) {
  absl::MutexLock lock(&mutex_);
  const auto found = gpus_.find(gpu);
  if (found == gpus_.end()) {
    return Error(Reason::kDeviceUnavailable, "no such GPU");
  }
  if (found->second.state == GpuStatus::State::kDrained) {
    found->second.state = GpuStatus::State::kIdle;
  }
  return absl::OkStatus();
}

void FakeGpus::OnLost(std::function<void(const GpuId& gpu, const absl::Status& why)> lost) {
  absl::MutexLock telling(&telling_);
  lost_ = std::move(lost);
}

absl::Status FakeGpus::CheckUsable(const GpuId& gpu) const {
  const auto found = gpus_.find(gpu);
  if (found == gpus_.end()) {
    return Error(Reason::kDeviceUnavailable, absl::StrCat("no GPU ", gpu.ToText()));
  }
  if (found->second.state == GpuStatus::State::kDrained) {
    return Error(Reason::kDeviceUnavailable, absl::StrCat(gpu.ToText(), " is drained"),
                 "weightctl resume");
  }
  return absl::OkStatus();
}

absl::Status FakeGpus::PassGate(Cancellation& cancellation) {
  absl::MutexLock lock(&mutex_);
  ++at_gate_;
  const auto open = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return open_; };
  while (!open_ && !cancellation.cancelled()) {
    mutex_.AwaitWithTimeout(absl::Condition(&open), absl::Milliseconds(2));
  }
  --at_gate_;
  return cancellation.status();
}

absl::Status FakeGpus::AwaitImports(const GpuId& gpu, Cancellation& cancellation) {
  absl::MutexLock lock(&mutex_);
  const auto cancelled = [&cancellation] { return cancellation.cancelled(); };
  while (gpus_.at(gpu).imports_held && !cancellation.cancelled()) {
    mutex_.AwaitWithTimeout(absl::Condition(&cancelled), absl::Milliseconds(2));
  }
  return cancellation.status();
}

absl::Status FakeGpus::UploadStatus(const GpuId& gpu, int worker) const {
  absl::MutexLock lock(&mutex_);
  const Gpu& on = gpus_.at(gpu);
  RETURN_IF_ERROR(on.upload_error);
  return on.worker == worker ? absl::OkStatus()
                             : Error(Reason::kDeviceUnavailable, "its worker has ended");
}

bool FakeGpus::Lost(const GpuId& gpu, int worker) const {
  absl::MutexLock lock(&mutex_);
  return gpus_.at(gpu).worker != worker;
}

void FakeGpus::Record(const RecordedCopy& copy) {
  absl::MutexLock lock(&mutex_);
  copies_.push_back(copy);
}

void FakeGpus::CountSegment(int change, bool drained) {
  absl::MutexLock lock(&mutex_);
  segments_alive_ += change;
  segments_drained_ += !drained ? 0 : change < 0 ? -1 : 1;
}

void FakeGpus::CountUpload(int change) {
  absl::MutexLock lock(&mutex_);
  uploads_alive_ += change;
}

std::string FakeGpus::NextLegacyHandle() {
  absl::MutexLock lock(&mutex_);
  std::string handle = absl::StrCat("fake handle ", ++next_handle_);
  handle.resize(kLegacyHandleBytes, '\0');
  return handle;
}

}  // namespace weightd::fakes
