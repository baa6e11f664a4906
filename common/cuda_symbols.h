#ifndef WEIGHTD_COMMON_CUDA_SYMBOLS_H_
#define WEIGHTD_COMMON_CUDA_SYMBOLS_H_

// The functions of common/cuda_driver.h, and the symbol of the driver's library that each is:
// cuda.h keeps a function's first form under its plain name, for programs built long ago, and maps
// the name to a later one. A test reads this list beside cuda.h. `X(member, symbol)`.
// clang-format off
#define WEIGHTD_CUDA_SYMBOLS(X)                                     \
  X(cuInit, cuInit)                                                 \
  X(cuDriverGetVersion, cuDriverGetVersion)                         \
  X(cuGetErrorName, cuGetErrorName)                                 \
  X(cuGetErrorString, cuGetErrorString)                             \
  X(cuDeviceGetCount, cuDeviceGetCount)                             \
  X(cuDeviceGet, cuDeviceGet)                                       \
  X(cuDeviceGetName, cuDeviceGetName)                               \
  X(cuDeviceGetUuid, cuDeviceGetUuid_v2)                            \
  X(cuDeviceTotalMem, cuDeviceTotalMem_v2)                          \
  X(cuDeviceGetAttribute, cuDeviceGetAttribute)                     \
  X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain)             \
  X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2)        \
  X(cuCtxSetCurrent, cuCtxSetCurrent)                               \
  X(cuCtxGetCurrent, cuCtxGetCurrent)                               \
  X(cuCtxSynchronize, cuCtxSynchronize)                             \
  X(cuMemGetInfo, cuMemGetInfo_v2)                                  \
  X(cuMemAlloc, cuMemAlloc_v2)                                      \
  X(cuMemFree, cuMemFree_v2)                                        \
  X(cuMemAllocHost, cuMemAllocHost_v2)                              \
  X(cuMemFreeHost, cuMemFreeHost)                                   \
  X(cuMemHostRegister, cuMemHostRegister_v2)                        \
  X(cuMemHostUnregister, cuMemHostUnregister)                       \
  X(cuMemcpyHtoD, cuMemcpyHtoD_v2)                                  \
  X(cuMemcpyDtoH, cuMemcpyDtoH_v2)                                  \
  X(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2)                        \
  X(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2)                        \
  X(cuMemsetD8, cuMemsetD8_v2)                                      \
  X(cuStreamCreate, cuStreamCreate)                                 \
  X(cuStreamDestroy, cuStreamDestroy_v2)                            \
  X(cuStreamSynchronize, cuStreamSynchronize)                       \
  X(cuEventCreate, cuEventCreate)                                   \
  X(cuEventDestroy, cuEventDestroy_v2)                              \
  X(cuEventRecord, cuEventRecord)                                   \
  X(cuEventQuery, cuEventQuery)                                     \
  X(cuEventSynchronize, cuEventSynchronize)                         \
  X(cuIpcGetMemHandle, cuIpcGetMemHandle)                           \
  X(cuIpcOpenMemHandle, cuIpcOpenMemHandle_v2)                      \
  X(cuIpcCloseMemHandle, cuIpcCloseMemHandle)                       \
  X(cuMemGetAllocationGranularity, cuMemGetAllocationGranularity)   \
  X(cuMemCreate, cuMemCreate)                                       \
  X(cuMemRelease, cuMemRelease)                                     \
  X(cuMemAddressReserve, cuMemAddressReserve)                       \
  X(cuMemAddressFree, cuMemAddressFree)                             \
  X(cuMemMap, cuMemMap)                                             \
  X(cuMemUnmap, cuMemUnmap)                                         \
  X(cuMemSetAccess, cuMemSetAccess)                                 \
  X(cuMemExportToShareableHandle, cuMemExportToShareableHandle)     \
  X(cuMemImportFromShareableHandle, cuMemImportFromShareableHandle) \
  X(cuMemGetAllocationPropertiesFromHandle, cuMemGetAllocationPropertiesFromHandle)
// clang-format on

#endif  // WEIGHTD_COMMON_CUDA_SYMBOLS_H_
