#ifndef WEIGHTD_COMMON_CUDA_DRIVER_H_
#define WEIGHTD_COMMON_CUDA_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cuda_types.h"

namespace weightd {

// The functions of the CUDA driver API that we call, found in the driver's library when the program
// runs: one binary serves nodes with and without GPUs. Each member is named as the function is in
// cuda.h, and found under the symbol that cuda.h maps that name to (cuMemGetInfo is
// cuMemGetInfo_v2). The only place that knows the driver's symbols. Never unloaded. Thread-safe;
// what the driver demands of its callers (a current context) is theirs to see to.
//
// Reference: CUDA driver API, docs.nvidia.com/cuda/cuda-driver-api.
class CudaDriver {
 public:
  static constexpr absl::string_view kLibrary = "libcuda.so.1";
  // The first with cuDeviceGetUuid_v2, which tells MIG instances apart.
  static constexpr int kOldestVersion = 11040;

  // `library` is a name for dlopen, or a path. kDeviceUnavailable, with a hint, if it can't be
  // loaded, lacks a symbol, or is older than kOldestVersion. Doesn't call cuInit: nothing of the
  // GPU is touched.
  static absl::StatusOr<std::shared_ptr<const CudaDriver>> Load(
      const std::string& library = std::string(kLibrary));

  // The one place where CUresult becomes Status: "what: CUDA_ERROR_NAME 1 (text)". Out of memory is
  // kDeviceMemoryShort, a missing or invalid device or a lost one kDeviceUnavailable, others
  // kInternal; errors that only the end of the process clears are marked, see NeedsProcessExit.
  absl::Status Check(cuda::CUresult result, absl::string_view what) const;

  // Whether this error, which Check made, stays with the process (a GPU fault, a lost GPU): all
  // further CUDA work in it fails.
  static bool NeedsProcessExit(const absl::Status& status);

  // 12040 for CUDA 12.4.
  int version() const { return version_; }
  const std::string& library() const { return library_; }

  // clang-format off
  cuda::CUresult (*cuInit)(unsigned int flags);
  cuda::CUresult (*cuDriverGetVersion)(int* version);
  cuda::CUresult (*cuGetErrorName)(cuda::CUresult error, const char** name);
  cuda::CUresult (*cuGetErrorString)(cuda::CUresult error, const char** text);
  cuda::CUresult (*cuDeviceGetCount)(int* count);
  cuda::CUresult (*cuDeviceGet)(cuda::CUdevice* device, int ordinal);
  cuda::CUresult (*cuDeviceGetName)(char* name, int length, cuda::CUdevice device);
  cuda::CUresult (*cuDeviceGetUuid)(cuda::CUuuid* uuid, cuda::CUdevice device);            // _v2
  cuda::CUresult (*cuDeviceTotalMem)(size_t* bytes, cuda::CUdevice device);                // _v2
  cuda::CUresult (*cuDeviceGetAttribute)(int* value, cuda::CUdevice_attribute attribute, cuda::CUdevice device);
  cuda::CUresult (*cuDevicePrimaryCtxRetain)(cuda::CUcontext* context, cuda::CUdevice device);
  cuda::CUresult (*cuDevicePrimaryCtxRelease)(cuda::CUdevice device);                      // _v2
  cuda::CUresult (*cuCtxSetCurrent)(cuda::CUcontext context);
  cuda::CUresult (*cuCtxGetCurrent)(cuda::CUcontext* context);
  cuda::CUresult (*cuCtxSynchronize)();
  cuda::CUresult (*cuMemGetInfo)(size_t* free, size_t* total);                             // _v2
  cuda::CUresult (*cuMemAlloc)(cuda::CUdeviceptr* pointer, size_t bytes);                  // _v2
  cuda::CUresult (*cuMemFree)(cuda::CUdeviceptr pointer);                                  // _v2
  cuda::CUresult (*cuMemAllocHost)(void** pointer, size_t bytes);                          // _v2
  cuda::CUresult (*cuMemFreeHost)(void* pointer);
  cuda::CUresult (*cuMemHostRegister)(void* pointer, size_t bytes, unsigned int flags);    // _v2
  cuda::CUresult (*cuMemHostUnregister)(void* pointer);
  cuda::CUresult (*cuMemcpyHtoD)(cuda::CUdeviceptr to, const void* from, size_t bytes);    // _v2
  cuda::CUresult (*cuMemcpyDtoH)(void* to, cuda::CUdeviceptr from, size_t bytes);          // _v2
  cuda::CUresult (*cuMemcpyHtoDAsync)(cuda::CUdeviceptr to, const void* from, size_t bytes, cuda::CUstream stream);             // _v2
  cuda::CUresult (*cuMemcpyDtoDAsync)(cuda::CUdeviceptr to, cuda::CUdeviceptr from, size_t bytes, cuda::CUstream stream);       // _v2
  cuda::CUresult (*cuMemsetD8)(cuda::CUdeviceptr pointer, unsigned char value, size_t count);                                   // _v2
  cuda::CUresult (*cuStreamCreate)(cuda::CUstream* stream, unsigned int flags);
  cuda::CUresult (*cuStreamDestroy)(cuda::CUstream stream);                                // _v2
  cuda::CUresult (*cuStreamSynchronize)(cuda::CUstream stream);
  cuda::CUresult (*cuEventCreate)(cuda::CUevent* event, unsigned int flags);
  cuda::CUresult (*cuEventDestroy)(cuda::CUevent event);                                   // _v2
  cuda::CUresult (*cuEventRecord)(cuda::CUevent event, cuda::CUstream stream);
  cuda::CUresult (*cuEventQuery)(cuda::CUevent event);
  cuda::CUresult (*cuEventSynchronize)(cuda::CUevent event);
  cuda::CUresult (*cuIpcGetMemHandle)(cuda::CUipcMemHandle* handle, cuda::CUdeviceptr pointer);
  cuda::CUresult (*cuIpcOpenMemHandle)(cuda::CUdeviceptr* pointer, cuda::CUipcMemHandle handle, unsigned int flags);            // _v2
  cuda::CUresult (*cuIpcCloseMemHandle)(cuda::CUdeviceptr pointer);
  cuda::CUresult (*cuMemGetAllocationGranularity)(size_t* granularity, const cuda::CUmemAllocationProp* prop, cuda::CUmemAllocationGranularity_flags option);
  cuda::CUresult (*cuMemCreate)(cuda::CUmemGenericAllocationHandle* handle, size_t bytes, const cuda::CUmemAllocationProp* prop, unsigned long long flags);
  cuda::CUresult (*cuMemRelease)(cuda::CUmemGenericAllocationHandle handle);
  cuda::CUresult (*cuMemAddressReserve)(cuda::CUdeviceptr* pointer, size_t bytes, size_t alignment, cuda::CUdeviceptr address, unsigned long long flags);
  cuda::CUresult (*cuMemAddressFree)(cuda::CUdeviceptr pointer, size_t bytes);
  cuda::CUresult (*cuMemMap)(cuda::CUdeviceptr pointer, size_t bytes, size_t offset, cuda::CUmemGenericAllocationHandle handle, unsigned long long flags);
  cuda::CUresult (*cuMemUnmap)(cuda::CUdeviceptr pointer, size_t bytes);
  cuda::CUresult (*cuMemSetAccess)(cuda::CUdeviceptr pointer, size_t bytes, const cuda::CUmemAccessDesc* descriptors, size_t count);
  cuda::CUresult (*cuMemExportToShareableHandle)(void* shareable, cuda::CUmemGenericAllocationHandle handle, cuda::CUmemAllocationHandleType type, unsigned long long flags);
  cuda::CUresult (*cuMemImportFromShareableHandle)(cuda::CUmemGenericAllocationHandle* handle, void* shareable, cuda::CUmemAllocationHandleType type);
  cuda::CUresult (*cuMemGetAllocationPropertiesFromHandle)(cuda::CUmemAllocationProp* prop, cuda::CUmemGenericAllocationHandle handle);
  // clang-format on

 private:
  CudaDriver() = default;

  std::string library_;
  int version_ = 0;
};

}  // namespace weightd

#endif  // WEIGHTD_COMMON_CUDA_DRIVER_H_
