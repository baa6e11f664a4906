#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/fakes/fake_cuda/api.h"
#include "tests/fakes/fake_cuda/errors.h"
#include "tests/fakes/fake_cuda/process.h"

// The driver itself, devices and contexts.

namespace weightd::cuda {

using fake_cuda::Begin;
using fake_cuda::BeginCurrent;
using fake_cuda::BeginOn;
using fake_cuda::Device;
using fake_cuda::Process;

extern "C" {

CUresult cuInit(unsigned int flags) {
  FAKE_CUDA_TRY(fake_cuda::Fault("cuInit"));
  return flags == 0 ? Process::Get().Initialize() : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDriverGetVersion(int* version) {
  *version = fake_cuda::DriverVersion();
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
  const fake_cuda::ErrorText* const found = fake_cuda::FindError(error);
  *name = found == nullptr ? nullptr : found->name;
  return found == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  const fake_cuda::ErrorText* const found = fake_cuda::FindError(error);
  *text = found == nullptr ? nullptr : found->text;
  return found == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  FAKE_CUDA_TRY(Begin("cuDeviceGetCount"));
  *count = static_cast<int>(Process::Get().devices().size());
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  FAKE_CUDA_TRY(Begin("cuDeviceGet"));
  if (Process::Get().device(ordinal) == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *device = ordinal;
  return CUDA_SUCCESS;
}

// What the driver knows of a device without a context it says of a lost one too.
CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  FAKE_CUDA_TRY(Begin("cuDeviceGetName"));
  if (Process::Get().device(device) == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (length <= 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::snprintf(name, static_cast<size_t>(length), "Fake GPU");
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  FAKE_CUDA_TRY(Begin("cuDeviceGetUuid"));
  const Device* const found = Process::Get().device(device);
  if (found == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  const std::string bytes = found->settings().uuid.ToBytes();
  std::memcpy(uuid->bytes, bytes.data(), sizeof(uuid->bytes));
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  FAKE_CUDA_TRY(Begin("cuDeviceTotalMem"));
  const Device* const found = Process::Get().device(device);
  if (found == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *bytes = found->settings().bytes;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  FAKE_CUDA_TRY(Begin("cuDeviceGetAttribute"));
  if (Process::Get().device(device) == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
      *value = 1;
      return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  Device* const found = Process::Get().device(device);
  FAKE_CUDA_TRY(BeginOn("cuDevicePrimaryCtxRetain", found));
  found->Retain();
  *context = reinterpret_cast<CUcontext>(found);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  FAKE_CUDA_TRY(Begin("cuDevicePrimaryCtxRelease"));
  Device* const found = Process::Get().device(device);
  if (found == nullptr) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  return found->Release(Process::Get().addresses()) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  FAKE_CUDA_TRY(Begin("cuCtxSetCurrent"));
  for (const auto& device : Process::Get().devices()) {
    if (reinterpret_cast<CUcontext>(device.get()) == context && device->retained()) {
      fake_cuda::SetCurrentDevice(device.get());
      return CUDA_SUCCESS;
    }
  }
  if (context == nullptr) {
    fake_cuda::SetCurrentDevice(nullptr);
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  FAKE_CUDA_TRY(Begin("cuCtxGetCurrent"));
  *context = reinterpret_cast<CUcontext>(fake_cuda::CurrentDevice());
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
  Device* device = nullptr;
  FAKE_CUDA_TRY(BeginCurrent("cuCtxSynchronize", &device));
  device->Drain(/*all=*/true);
  return device->State();
}

}  // extern "C"

}  // namespace weightd::cuda
