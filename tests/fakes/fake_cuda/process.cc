#include "tests/fakes/fake_cuda/process.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "tests/fakes/fake_cuda/errors.h"
#include "tests/fakes/fake_cuda/faults.h"
#include "tests/fakes/fake_cuda/store.h"

namespace weightd::fake_cuda {
namespace {

thread_local Device* current_device = nullptr;

}  // namespace

void Device::Retain() {
  const absl::MutexLock lock(&mutex_);
  if (retained_++ == 0) {
    entered_ = EnterDevice(dir_, settings_.ordinal);
  }
}

bool Device::Release(AddressSpace& addresses) {
  const absl::MutexLock lock(&mutex_);
  if (retained_ == 0) {
    return false;
  }
  if (--retained_ == 0) {
    streams_.clear();
    events_.clear();
    addresses.RemoveAllOf(index_);
    LeaveDevice(dir_, settings_.ordinal, std::move(entered_));
  }
  return true;
}

bool Device::retained() const {
  const absl::MutexLock lock(&mutex_);
  return retained_ > 0;
}

cuda::CUresult Device::State() {
  const cuda::CUresult known = sticky_;
  if (known != cuda::CUDA_SUCCESS || !AnyFaults(dir_) || !IsLost(dir_, settings_.ordinal)) {
    return known;
  }
  return Note(cuda::CUDA_ERROR_ECC_UNCORRECTABLE);
}

cuda::CUresult Device::Note(cuda::CUresult result) {
  cuda::CUresult none = cuda::CUDA_SUCCESS;
  if (IsSticky(result)) {
    sticky_.compare_exchange_strong(none, result);
  }
  return result;
}

cuda::CUstream Device::AddStream(bool blocking) {
  auto stream = std::make_shared<Stream>(blocking);
  auto* const handle = reinterpret_cast<cuda::CUstream>(stream.get());
  const absl::MutexLock lock(&mutex_);
  streams_[handle] = std::move(stream);
  return handle;
}

std::shared_ptr<Stream> Device::FindStream(cuda::CUstream stream) const {
  const absl::MutexLock lock(&mutex_);
  const auto found = streams_.find(stream);
  return found == streams_.end() ? nullptr : found->second;
}

bool Device::RemoveStream(cuda::CUstream stream) {
  std::shared_ptr<Stream> removed;
  const absl::MutexLock lock(&mutex_);
  const auto found = streams_.find(stream);
  if (found == streams_.end()) {
    return false;
  }
  removed = std::move(found->second);
  streams_.erase(found);
  return true;
}

void Device::Drain(bool all) const {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& [handle, stream] : streams_) {
      if (all || stream->blocking()) {
        streams.push_back(stream);
      }
    }
  }
  for (const auto& stream : streams) {
    stream->Drain();
  }
}

cuda::CUevent Device::AddEvent() {
  auto event = std::make_shared<Event>();
  auto* const handle = reinterpret_cast<cuda::CUevent>(event.get());
  const absl::MutexLock lock(&mutex_);
  events_[handle] = std::move(event);
  return handle;
}

std::shared_ptr<Event> Device::FindEvent(cuda::CUevent event) const {
  const absl::MutexLock lock(&mutex_);
  const auto found = events_.find(event);
  return found == events_.end() ? nullptr : found->second;
}

bool Device::RemoveEvent(cuda::CUevent event) {
  const absl::MutexLock lock(&mutex_);
  return events_.erase(event) != 0;
}

Process& Process::Get() {
  static Process* const process = new Process();
  return *process;
}

Process::Process() : settings_(ReadSettings()), pid_(getpid()) {
  if (!settings_.ok()) {
    return;
  }
  for (const DeviceSettings& device : settings_->visible) {
    devices_.push_back(
        std::make_unique<Device>(static_cast<int>(devices_.size()), device, settings_->dir));
  }
}

cuda::CUresult Process::Initialize() {
  if (!settings_.ok()) {
    std::fprintf(stderr, "fake_cuda: %s\n", std::string(settings_.status().message()).c_str());
    return cuda::CUDA_ERROR_UNKNOWN;
  }
  if (getpid() != pid_) {
    return cuda::CUDA_ERROR_NOT_INITIALIZED;
  }
  if (devices_.empty()) {
    return cuda::CUDA_ERROR_NO_DEVICE;
  }
  initialized_ = true;
  return cuda::CUDA_SUCCESS;
}

const Settings* Process::settings() const {
  return initialized_ && getpid() == pid_ ? &*settings_ : nullptr;
}

Device* Process::device(int index) const {
  const bool known = index >= 0 && static_cast<size_t>(index) < devices_.size();
  return known ? devices_[static_cast<size_t>(index)].get() : nullptr;
}

Device* Process::DeviceOf(const AllocationFile& allocation) const {
  for (const auto& device : devices_) {
    if (device->settings().ordinal == allocation.ordinal) {
      return device.get();
    }
  }
  return nullptr;
}

Device* CurrentDevice() {
  return current_device != nullptr && current_device->retained() ? current_device : nullptr;
}

void SetCurrentDevice(Device* device) { current_device = device; }

cuda::CUresult Fault(const char* function) {
  const Process& process = Process::Get();
  if (!process.settings_.ok() || !AnyFaults(process.settings_->dir)) {
    return cuda::CUDA_SUCCESS;
  }
  const cuda::CUresult result = NextFault(process.settings_->dir, function);
  return current_device == nullptr ? result : current_device->Note(result);
}

cuda::CUresult Begin(const char* function) {
  FAKE_CUDA_TRY(Fault(function));
  return Process::Get().settings() == nullptr ? cuda::CUDA_ERROR_NOT_INITIALIZED
                                              : cuda::CUDA_SUCCESS;
}

cuda::CUresult BeginOn(const char* function, Device* device) {
  FAKE_CUDA_TRY(Begin(function));
  return device == nullptr ? cuda::CUDA_ERROR_INVALID_DEVICE : device->State();
}

cuda::CUresult BeginCurrent(const char* function, Device** device) {
  FAKE_CUDA_TRY(Begin(function));
  *device = CurrentDevice();
  return *device == nullptr ? cuda::CUDA_ERROR_INVALID_CONTEXT : (*device)->State();
}

}  // namespace weightd::fake_cuda
