#include <fcntl.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "tests/fakes/fake_cuda/api.h"
#include "tests/fakes/fake_cuda/process.h"

// Virtual memory management: cuMemCreate and what goes with it.

namespace weightd::cuda {
namespace {

using fake_cuda::AllocationFile;
using fake_cuda::Begin;
using fake_cuda::BeginOn;
using fake_cuda::Device;
using fake_cuda::kGranularity;
using fake_cuda::Process;

Device* DeviceAt(const CUmemLocation& location) {
  return location.type == CU_MEM_LOCATION_TYPE_DEVICE ? Process::Get().device(location.id)
                                                      : nullptr;
}

bool IsValid(const CUmemAllocationProp& properties) {
  return properties.type == CU_MEM_ALLOCATION_TYPE_PINNED &&
         (properties.requestedHandleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) == 0;
}

}  // namespace

extern "C" {

CUresult cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* prop,
                                       CUmemAllocationGranularity_flags option) {
  FAKE_CUDA_TRY(BeginOn("cuMemGetAllocationGranularity", DeviceAt(prop->location)));
  if (!IsValid(*prop) || (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM &&
                          option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *granularity = kGranularity;
  return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes,
                     const CUmemAllocationProp* prop, unsigned long long flags) {
  Device* const device = DeviceAt(prop->location);
  FAKE_CUDA_TRY(BeginOn("cuMemCreate", device));
  if (!IsValid(*prop) || flags != 0 || bytes == 0 || bytes % kGranularity != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Process& process = Process::Get();
  auto allocation = std::make_shared<AllocationFile>();
  FAKE_CUDA_TRY(fake_cuda::CreateAllocation(process.settings()->dir, device->settings().ordinal,
                                            device->settings().bytes, bytes, allocation.get()));
  *handle = process.handles().Add(std::move(allocation), prop->requestedHandleTypes != 0);
  return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  FAKE_CUDA_TRY(Begin("cuMemRelease"));
  return Process::Get().handles().Remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAddressReserve(CUdeviceptr* pointer, size_t bytes, size_t alignment,
                             CUdeviceptr /*address*/, unsigned long long flags) {
  FAKE_CUDA_TRY(Begin("cuMemAddressReserve"));
  return flags == 0 ? Process::Get().addresses().Reserve(bytes, alignment, pointer)
                    : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemAddressFree(CUdeviceptr pointer, size_t bytes) {
  FAKE_CUDA_TRY(Begin("cuMemAddressFree"));
  return Process::Get().addresses().Free(pointer, bytes);
}

CUresult cuMemMap(CUdeviceptr pointer, size_t bytes, size_t offset,
                  CUmemGenericAllocationHandle handle, unsigned long long flags) {
  FAKE_CUDA_TRY(Begin("cuMemMap"));
  Process& process = Process::Get();
  fake_cuda::AllocationPointer allocation = process.handles().Find(handle);
  if (allocation == nullptr || offset != 0 || flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  FAKE_CUDA_TRY(process.DeviceOf(*allocation)->State());
  return process.addresses().Map(pointer, bytes, std::move(allocation));
}

CUresult cuMemUnmap(CUdeviceptr pointer, size_t bytes) {
  FAKE_CUDA_TRY(Begin("cuMemUnmap"));
  return Process::Get().addresses().Unmap(pointer, bytes);
}

CUresult cuMemSetAccess(CUdeviceptr pointer, size_t bytes, const CUmemAccessDesc* descriptors,
                        size_t count) {
  FAKE_CUDA_TRY(Begin("cuMemSetAccess"));
  for (size_t i = 0; i < count; ++i) {
    Device* const device = DeviceAt(descriptors[i].location);
    if (device == nullptr) {
      return CUDA_ERROR_INVALID_DEVICE;
    }
    FAKE_CUDA_TRY(device->State());
    FAKE_CUDA_TRY(Process::Get().addresses().SetAccess(pointer, bytes, device->index(),
                                                       descriptors[i].flags));
  }
  return CUDA_SUCCESS;
}

CUresult cuMemExportToShareableHandle(void* shareable, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags) {
  FAKE_CUDA_TRY(Begin("cuMemExportToShareableHandle"));
  Process& process = Process::Get();
  const fake_cuda::AllocationPointer allocation = process.handles().Find(handle);
  if (allocation == nullptr || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || flags != 0 ||
      !process.handles().IsExportable(handle)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  FAKE_CUDA_TRY(process.DeviceOf(*allocation)->State());
  const int fd = fcntl(allocation->file.get(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) {
    return CUDA_ERROR_UNKNOWN;
  }
  *static_cast<int*>(shareable) = fd;
  return CUDA_SUCCESS;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* shareable,
                                        CUmemAllocationHandleType type) {
  FAKE_CUDA_TRY(Begin("cuMemImportFromShareableHandle"));
  Process& process = Process::Get();
  if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto& settings = *process.settings();
  auto allocation = std::make_shared<AllocationFile>();
  FAKE_CUDA_TRY(fake_cuda::ImportAllocation(
      settings.dir, static_cast<int>(reinterpret_cast<intptr_t>(shareable)), allocation.get()));
  Device* const device = process.DeviceOf(*allocation);
  if (device == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  FAKE_CUDA_TRY(device->State());
  if (settings.exporter_must_live &&
      !fake_cuda::IsOnDevice(settings.dir, allocation->ordinal, allocation->pid)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *handle = process.handles().Add(std::move(allocation), /*exportable=*/true);
  return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                CUmemGenericAllocationHandle handle) {
  FAKE_CUDA_TRY(Begin("cuMemGetAllocationPropertiesFromHandle"));
  Process& process = Process::Get();
  const fake_cuda::AllocationPointer allocation = process.handles().Find(handle);
  if (allocation == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Device* const device = process.DeviceOf(*allocation);
  FAKE_CUDA_TRY(device->State());
  *prop = {};
  prop->type = CU_MEM_ALLOCATION_TYPE_PINNED;
  if (process.handles().IsExportable(handle)) {
    prop->requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  }
  prop->location = {CU_MEM_LOCATION_TYPE_DEVICE, device->index()};
  return CUDA_SUCCESS;
}

}  // extern "C"

}  // namespace weightd::cuda
