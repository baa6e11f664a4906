#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "tests/fakes/fake_cuda/api.h"
#include "tests/fakes/fake_cuda/process.h"

// Memory of cuMemAlloc, host memory, and copies.

namespace weightd::cuda {
namespace {

using fake_cuda::AddressSpace;

using fake_cuda::BeginCurrent;
using fake_cuda::Device;
using fake_cuda::Extent;
using fake_cuda::Process;
using fake_cuda::Stream;

// What is there, unless the device may not touch it: that is a fault of its context for good.
CUresult Resolve(Device* device, CUdeviceptr pointer, uint64_t bytes, CUmemAccess_flags access,
                 std::vector<Extent>* extents) {
  Process& process = Process::Get();
  FAKE_CUDA_TRY(
      device->Note(process.addresses().Resolve(pointer, bytes, device->index(), access, extents)));
  for (const Extent& extent : *extents) {
    if (process.settings()->exporter_must_live &&
        !fake_cuda::IsOnDevice(process.settings()->dir, extent.allocation->ordinal,
                               extent.allocation->pid)) {
      return device->Note(CUDA_ERROR_ILLEGAL_ADDRESS);
    }
  }
  return CUDA_SUCCESS;
}

CUresult CheckMapped(const Device* device, CUdeviceptr pointer, uint64_t bytes) {
  std::vector<Extent> extents;
  return Process::Get().addresses().Resolve(pointer, bytes, device->index(),
                                            CU_MEM_ACCESS_FLAGS_PROT_NONE, &extents);
}

CUresult Write(Device* device, CUdeviceptr to, const void* from, uint64_t bytes) {
  std::vector<Extent> extents;
  FAKE_CUDA_TRY(Resolve(device, to, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, &extents));
  return fake_cuda::WriteBytes(extents, from);
}

CUresult Copy(Device* device, CUdeviceptr to, CUdeviceptr from, uint64_t bytes) {
  std::vector<Extent> to_extents;
  std::vector<Extent> from_extents;
  FAKE_CUDA_TRY(Resolve(device, from, bytes, CU_MEM_ACCESS_FLAGS_PROT_READ, &from_extents));
  FAKE_CUDA_TRY(Resolve(device, to, bytes, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, &to_extents));
  return fake_cuda::CopyBytes(to_extents, from_extents);
}

// A stream's copy, which runs when the stream gets there. What goes wrong then is the context's:
// the address that was good when it was asked for is not any more.
template <typename Work>
void RunCopy(Device* device, Work work) {
  if (const fake_cuda::Settings* settings = Process::Get().settings(); settings != nullptr) {
    absl::SleepFor(settings->copy_delay);
  }
  if (device->State() == CUDA_SUCCESS && work() != CUDA_SUCCESS) {
    device->Note(CUDA_ERROR_ILLEGAL_ADDRESS);
  }
}

// The default stream's work is done before the call returns, after that of all blocking streams.
template <typename Work>
CUresult OnStream(Device* device, CUstream stream, bool wait, Work work) {
  if (stream == nullptr) {
    device->Drain(/*all=*/false);
    RunCopy(device, work);
    return device->State();
  }
  const std::shared_ptr<Stream> found = device->FindStream(stream);
  if (found == nullptr) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  found->Enqueue([device, work] { RunCopy(device, work); });
  if (wait) {
    found->Drain();
  }
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemGetInfo", &device));
  const auto [ordinal, uuid, bytes] = device->settings();
  const uint64_t live = fake_cuda::ReadUsage(Process::Get().settings()->dir, ordinal).live_bytes;
  *total = bytes;
  *free = live < bytes ? bytes - live : 0;
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemAlloc", &device));
  if (bytes == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Process& process = Process::Get();
  auto allocation = std::make_shared<fake_cuda::AllocationFile>();
  FAKE_CUDA_TRY(fake_cuda::CreateAllocation(process.settings()->dir, device->settings().ordinal,
                                            device->settings().bytes, bytes, allocation.get()));
  return process.addresses().Place(std::move(allocation), device->index(),
                                   AddressSpace::Kind::kAllocated, pointer);
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemFree", &device));
  // It waits for the work that may use the memory.
  device->Drain(/*all=*/true);
  return Process::Get().addresses().Remove(pointer, AddressSpace::Kind::kAllocated);
}

CUresult cuMemAllocHost_v2(void** pointer, size_t bytes) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemAllocHost", &device));
  return Process::Get().host_memory().Allocate(bytes, pointer);
}

CUresult cuMemFreeHost(void* pointer) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemFreeHost", &device));
  device->Drain(/*all=*/true);
  return Process::Get().host_memory().Free(pointer);
}

CUresult cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned int flags) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemHostRegister", &device));
  if ((flags & ~CU_MEMHOSTREGISTER_PORTABLE) != 0) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  Process& process = Process::Get();
  return process.host_memory().Register(pointer, bytes, process.settings()->register_limit);
}

CUresult cuMemHostUnregister(void* pointer) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemHostUnregister", &device));
  device->Drain(/*all=*/true);
  return Process::Get().host_memory().Unregister(pointer);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemcpyHtoD", &device));
  device->Drain(/*all=*/false);
  return Write(device, to, from, bytes);
}

CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemcpyDtoH", &device));
  device->Drain(/*all=*/false);
  std::vector<Extent> extents;
  FAKE_CUDA_TRY(Resolve(device, from, bytes, CU_MEM_ACCESS_FLAGS_PROT_READ, &extents));
  return fake_cuda::ReadBytes(extents, to);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemcpyHtoDAsync", &device));
  FAKE_CUDA_TRY(CheckMapped(device, to, bytes));
  // From memory that is not pinned, it returns only when that has been read.
  const bool wait = !Process::Get().host_memory().IsPinned(from, bytes);
  return OnStream(device, stream, wait,
                  [device, to, from, bytes] { return Write(device, to, from, bytes); });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemcpyDtoDAsync", &device));
  FAKE_CUDA_TRY(CheckMapped(device, to, bytes));
  FAKE_CUDA_TRY(CheckMapped(device, from, bytes));
  return OnStream(device, stream, /*wait=*/false,
                  [device, to, from, bytes] { return Copy(device, to, from, bytes); });
}

CUresult cuMemsetD8_v2(CUdeviceptr pointer, unsigned char value, size_t count) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuMemsetD8", &device));
  device->Drain(/*all=*/false);
  std::vector<Extent> extents;
  FAKE_CUDA_TRY(Resolve(device, pointer, count, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, &extents));
  return fake_cuda::FillBytes(extents, value);
}

}  // extern "C"

}  // namespace weightd::cuda
