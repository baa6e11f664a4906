#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_PROCESS_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_PROCESS_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/cuda_types.h"
#include "common/fd.h"
#include "tests/fakes/fake_cuda/host_memory.h"
#include "tests/fakes/fake_cuda/memory.h"
#include "tests/fakes/fake_cuda/settings.h"
#include "tests/fakes/fake_cuda/stream.h"

namespace weightd::fake_cuda {

// A visible device and this process's primary context on it, whose CUcontext is its address.
// Thread-safe; lives until the process ends.
class Device {
 public:
  // `index` is its CUdevice.
  Device(int index, const DeviceSettings& settings, const std::string& dir)
      : index_(index), settings_(settings), dir_(dir) {}

  int index() const { return index_; }
  const DeviceSettings& settings() const { return settings_; }

  void Retain();
  // False if it is not retained. The last takes streams, events, and all that cuMemAlloc and legacy
  // handles gave along.
  bool Release(AddressSpace& addresses);
  bool retained() const;

  // What a process can't get rid of once it was met; CUDA_SUCCESS before.
  cuda::CUresult State();
  // Returns `result`, and keeps it if it is such.
  cuda::CUresult Note(cuda::CUresult result);

  cuda::CUstream AddStream(bool blocking);
  // Null if there is none such.
  std::shared_ptr<Stream> FindStream(cuda::CUstream stream) const;
  bool RemoveStream(cuda::CUstream stream);
  // What the default stream waits for, or, with `all`, what the context waits for.
  void Drain(bool all) const;

  cuda::CUevent AddEvent();
  std::shared_ptr<Event> FindEvent(cuda::CUevent event) const;
  bool RemoveEvent(cuda::CUevent event);

 private:
  const int index_;
  const DeviceSettings settings_;
  const std::string dir_;
  std::atomic<cuda::CUresult> sticky_ = cuda::CUDA_SUCCESS;

  mutable absl::Mutex mutex_;
  int retained_ ABSL_GUARDED_BY(mutex_) = 0;
  Fd entered_ ABSL_GUARDED_BY(mutex_);
  std::map<cuda::CUstream, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::map<cuda::CUevent, std::shared_ptr<Event>> events_ ABSL_GUARDED_BY(mutex_);
};

// All that the driver knows of this process. Never destroyed: streams' threads may outlive main.
class Process {
 public:
  static Process& Get();

  // cuInit.
  cuda::CUresult Initialize();
  // Null before, and in a fork's child, where CUDA doesn't work.
  const Settings* settings() const;
  const std::vector<std::unique_ptr<Device>>& devices() const { return devices_; }
  Device* device(int index) const;
  // Whose allocation it is; null if it isn't visible.
  Device* DeviceOf(const AllocationFile& allocation) const;

  AddressSpace& addresses() { return addresses_; }
  AllocationHandles& handles() { return handles_; }
  HostMemory& host_memory() { return host_memory_; }

 private:
  Process();

  const absl::StatusOr<Settings> settings_;
  const int pid_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::atomic<bool> initialized_ = false;
  AddressSpace addresses_;
  AllocationHandles handles_;
  HostMemory host_memory_;

  friend cuda::CUresult Fault(const char* function);
};

// This thread's context, or null.
Device* CurrentDevice();
void SetCurrentDevice(Device* device);

// How every function of the API begins, so that faults come and states are checked. `function` is
// its name without "_v2". Those that need cuInit:
cuda::CUresult Begin(const char* function);
// Those of a device, by whichever means it is known:
cuda::CUresult BeginOn(const char* function, Device* device);
// Those that need a current context:
cuda::CUresult BeginCurrent(const char* function, Device** device);
// cuInit.
cuda::CUresult Fault(const char* function);

}  // namespace weightd::fake_cuda

#define FAKE_CUDA_TRY(expression)                           \
  if (const weightd::cuda::CUresult result_ = (expression); \
      result_ != weightd::cuda::CUDA_SUCCESS)               \
  return result_

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_PROCESS_H_
