#include "tests/fakes/fake_gpus.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/mapping.h"
#include "common/status.h"

namespace weightd::fakes {
namespace {

using device::CopyRun;
using device::GpuStatus;
using device::Handles;

constexpr char kUntouched = '\xdb';
constexpr absl::Duration kLongest = absl::Minutes(1);
constexpr size_t kLegacyHandleBytes = 64;

absl::StatusOr<Fd> MemfdOf(absl::string_view bytes) {
  Fd memfd(memfd_create("fake-gpu", MFD_CLOEXEC));
  if (!memfd.valid()) {
    return ErrnoError(errno, "create a memfd");
  }
  while (!bytes.empty()) {
    const ssize_t written = write(memfd.get(), bytes.data(), bytes.size());
    if (written < 0) {
      return ErrnoError(errno, "fill a memfd");
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return memfd;
}

// The part of `run` that `host` has; empty if there is none.
CopyRun Overlap(const CopyRun& run, ByteRange host) {
  const uint64_t begin = std::max(run.host.begin, host.begin);
  const uint64_t end = std::max(begin, std::min(run.host.end, host.end));
  return {{begin, end}, run.device_offset + (begin - run.host.begin)};
}

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

class FakeSegment final : public device::Segment {
 public:
  FakeSegment(FakeGpus* gpus, int worker, std::string bytes, std::string mark, Handles handles,
              bool is_private, device::Reservation reservation)
      : gpus_(*gpus),
        gpu_(reservation.gpu()),
        worker_(worker),
        bytes_(std::move(bytes)),
        mark_(std::move(mark)),
        allocated_(reservation.bytes()),
        handles_(handles),
        is_private_(is_private),
        reservation_(std::move(reservation)) {
    reservation_.Recharge(device::Charge::kResident);
    gpus_.CountSegment(1, false);
    if (handles == Handles::kLegacy) {
      legacy_handle_ = gpus_.NextLegacyHandle();
    }
  }
  ~FakeSegment() override { gpus_.CountSegment(-1, drained_); }

  const GpuId& gpu() const override { return gpu_; }
  uint64_t bytes() const override { return allocated_; }
  Handles handles() const override { return handles_; }
  bool is_private() const override { return is_private_; }
  bool lost() const override { return gpus_.Lost(gpu_, worker_); }
  const std::string& legacy_handle() const override { return legacy_handle_; }

  absl::StatusOr<Fd> OpenForClient() override {
    if (lost()) {
      return Error(Reason::kDeviceUnavailable, "its worker has ended", "load it again");
    }
    absl::MutexLock lock(&mutex_);
    if (handles_ == Handles::kLegacy || given_away_) {
      return Error(Reason::kInternal, "this segment has no descriptor to give");
    }
    if (is_private_) {
      given_away_ = true;
      reservation_.GiveBack();
    }
    return MemfdOf(absl::StrCat(bytes_, mark_, gpu_.ToBytes()));
  }

  void Drain() override {
    absl::MutexLock lock(&mutex_);
    if (!drained_) {
      drained_ = true;
      reservation_.Recharge(device::Charge::kDraining);
      gpus_.CountSegment(0, true);
    }
  }

  const std::string& memory() const { return bytes_; }

 private:
  FakeGpus& gpus_;
  const GpuId gpu_;
  const int worker_;
  const std::string bytes_;
  const std::string mark_;
  const uint64_t allocated_;
  const Handles handles_;
  const bool is_private_;
  std::string legacy_handle_;
  absl::Mutex mutex_;
  device::Reservation reservation_ ABSL_GUARDED_BY(mutex_);
  bool given_away_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> drained_ = false;
};

// Copies on its own thread, in the order in which it was asked to.
class FakeUpload final : public device::Upload {
 public:
  FakeUpload(FakeGpus* gpus, int worker, device::UploadPlan plan, Mapping source, bool late,
             bool held)
      : gpus_(*gpus),
        worker_(worker),
        gpu_(plan.reservation.gpu()),
        late_(late),
        held_(held),
        plan_(std::move(plan)),
        source_(std::move(source)),
        memory_(plan_.device_bytes, kUntouched),
        copied_(plan_.device_bytes, 0) {
    gpus_.CountUpload(1);
    thread_ = std::thread([this] { Work(); });
  }
  ~FakeUpload() override {
    Stop();
    gpus_.CountUpload(-1);
  }

  uint64_t Copy(ByteRange host, uint64_t source_offset) override {
    gpus_.Record({gpu_, host, source_offset});
    absl::MutexLock lock(&mutex_);
    asked_.push_back({host, source_offset});
    return asked_.size();
  }

  absl::Status Await(uint64_t copy, Cancellation& cancellation) override {
    absl::MutexLock lock(&mutex_);
    awaited_ = std::max(awaited_, copy);
    while (done_ < copy) {
      RETURN_IF_ERROR(cancellation.status());
      RETURN_IF_ERROR(gpus_.UploadStatus(gpu_, worker_));
      const auto done = [this, copy]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done_ >= copy; };
      mutex_.AwaitWithTimeout(absl::Condition(&done), absl::Milliseconds(2));
    }
    return gpus_.UploadStatus(gpu_, worker_);
  }

  absl::StatusOr<std::shared_ptr<device::Segment>> Finish(Cancellation& cancellation) override {
    RETURN_IF_ERROR(gpus_.PassGate(cancellation));
    uint64_t all = 0;
    {
      absl::MutexLock lock(&mutex_);
      all = asked_.size();
    }
    RETURN_IF_ERROR(Await(all, cancellation));
    Stop();
    source_.Reset();
    plan_.source.Reset();
    for (const CopyRun& run : plan_.runs) {
      const auto begin = copied_.begin() + static_cast<int64_t>(run.device_offset);
      const auto end = begin + static_cast<int64_t>(run.host.size());
      if (std::any_of(begin, end, [](uint8_t times) { return times != 1; })) {
        return Error(Reason::kInternal, "a byte was not copied, or copied twice");
      }
    }
    RETURN_IF_ERROR(gpus_.UploadStatus(gpu_, worker_));
    return std::make_shared<FakeSegment>(&gpus_, worker_, std::move(memory_), plan_.mark,
                                         plan_.handles, /*is_private=*/false,
                                         std::move(plan_.reservation));
  }

 private:
  struct Asked {
    ByteRange host;
    uint64_t source_offset = 0;
  };

  void Work() {
    absl::MutexLock lock(&mutex_);
    const auto to_do = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      const uint64_t wanted = late_ ? std::min<uint64_t>(awaited_, asked_.size()) : asked_.size();
      return stopped_ || (!held_ && done_ < wanted);
    };
    for (;;) {
      mutex_.Await(absl::Condition(&to_do));
      if (stopped_) {
        return;
      }
      const Asked next = asked_[done_];
      mutex_.Unlock();
      for (const CopyRun& run : plan_.runs) {
        const CopyRun part = Overlap(run, next.host);
        if (!part.host.empty()) {
          memcpy(memory_.data() + part.device_offset,
                 source_.data() + next.source_offset + (part.host.begin - next.host.begin),
                 part.host.size());
          for (uint64_t i = 0; i < part.host.size(); ++i) {
            ++copied_[part.device_offset + i];
          }
        }
      }
      mutex_.Lock();
      ++done_;
    }
  }

  void Stop() {
    {
      absl::MutexLock lock(&mutex_);
      stopped_ = true;
    }
    if (thread_.joinable()) {
      thread_.join();
    }
  }

  FakeGpus& gpus_;
  const int worker_;
  const GpuId gpu_;
  const bool late_;
  const bool held_;
  device::UploadPlan plan_;
  Mapping source_;
  // The thread's until it has ended.
  std::string memory_;
  std::vector<uint8_t> copied_;
  absl::Mutex mutex_;
  std::vector<Asked> asked_ ABSL_GUARDED_BY(mutex_);
  uint64_t awaited_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

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

void FakeGpus::FailUploads(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).upload_error = std::move(error);
}

void FakeGpus::RefuseUploads(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).begin_error = std::move(error);
}

void FakeGpus::FailReserves(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).reserve_error = std::move(error);
}

void FakeGpus::FailPrivateCopies(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).private_error = std::move(error);
}

void FakeGpus::FailImports(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).import_error = std::move(error);
}

void FakeGpus::HoldImports(const GpuId& gpu) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).imports_held = true;
}

void FakeGpus::CloseGate() {
  absl::MutexLock lock(&mutex_);
  open_ = false;
}

void FakeGpus::OpenGate() {
  absl::MutexLock lock(&mutex_);
  open_ = true;
}

void FakeGpus::CopyLate() {
  absl::MutexLock lock(&mutex_);
  late_ = true;
}

void FakeGpus::HoldCopies() {
  absl::MutexLock lock(&mutex_);
  held_ = true;
}

void FakeGpus::Lose(const GpuId& gpu, const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    Gpu& lost = gpus_.at(gpu);
    ++lost.worker;
    lost.state = GpuStatus::State::kFailed;
    lost.last_error = std::string(why.message());
  }
  std::thread([&] {
    absl::MutexLock telling(&telling_);
    if (lost_) {
      lost_(gpu, why);
    }
  }).join();
}

bool FakeGpus::AwaitGate() {
  absl::MutexLock lock(&mutex_);
  const auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return at_gate_ > 0; };
  return mutex_.AwaitWithTimeout(absl::Condition(&there), kLongest);
}

bool FakeGpus::AwaitCopies(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return copies_.size() >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongest);
}

bool FakeGpus::AwaitUploads(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return uploads_ >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongest);
}

std::vector<FakeGpus::RecordedCopy> FakeGpus::copies() const {
  absl::MutexLock lock(&mutex_);
  return copies_;
}

size_t FakeGpus::uploads() const {
  absl::MutexLock lock(&mutex_);
  return uploads_;
}

size_t FakeGpus::private_copies() const {
  absl::MutexLock lock(&mutex_);
  return private_copies_;
}

size_t FakeGpus::imports() const {
  absl::MutexLock lock(&mutex_);
  return imports_;
}

size_t FakeGpus::segments_alive() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<size_t>(segments_alive_);
}

size_t FakeGpus::uploads_alive() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<size_t>(uploads_alive_);
}

size_t FakeGpus::segments_drained() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<size_t>(segments_drained_);
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

absl::StatusOr<std::shared_ptr<device::Segment>> FakeGpus::Import(device::ImportPlan plan,
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
