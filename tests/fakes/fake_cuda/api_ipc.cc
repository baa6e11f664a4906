#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "tests/fakes/fake_cuda/api.h"
#include "tests/fakes/fake_cuda/process.h"

// Legacy handles of memory of cuMemAlloc.

namespace weightd::cuda {
namespace {

using fake_cuda::AddressSpace;
using fake_cuda::BeginCurrent;
using fake_cuda::Device;
using fake_cuda::Process;

constexpr uint64_t kMagic = 0x6375646166616b65;

// What the 64 bytes begin with.
struct HandleContents {
  uint64_t magic = 0;
  uint64_t sequence = 0;
  int32_t ordinal = 0;
  int32_t pid = 0;
};
static_assert(sizeof(HandleContents) <= sizeof(CUipcMemHandle));

}  // namespace

extern "C" {

// Of any pointer into an allocation: the handle is the whole allocation's.
CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr pointer) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuIpcGetMemHandle", &device));
  const fake_cuda::AllocationPointer allocation = Process::Get().addresses().FindAllocated(pointer);
  if (allocation == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const HandleContents contents = {kMagic, allocation->sequence, allocation->ordinal,
                                   allocation->pid};
  *handle = {};
  std::memcpy(handle->reserved, &contents, sizeof(contents));
  return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* pointer, CUipcMemHandle handle, unsigned int flags) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuIpcOpenMemHandle", &device));
  HandleContents contents;
  std::memcpy(&contents, handle.reserved, sizeof(contents));
  if (contents.magic != kMagic || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (contents.pid == getpid()) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  Process& process = Process::Get();
  auto allocation = std::make_shared<fake_cuda::AllocationFile>();
  FAKE_CUDA_TRY(fake_cuda::OpenAllocation(process.settings()->dir, contents.ordinal, contents.pid,
                                          contents.sequence, allocation.get()));
  if (process.DeviceOf(*allocation) == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  return process.addresses().Place(std::move(allocation), device->index(),
                                   AddressSpace::Kind::kOpened, pointer);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr pointer) {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuIpcCloseMemHandle", &device));
  device->Drain(/*all=*/true);
  return Process::Get().addresses().Remove(pointer, AddressSpace::Kind::kOpened);
}

}  // extern "C"

}  // namespace weightd::cuda
