#include "daemon/device/worker/list.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "common/cuda_driver.h"
#include "common/status.h"
#include "daemon/device/worker/answers.h"
#include "daemon/device/worker_messages.h"

namespace weightd::device {
namespace {

absl::StatusOr<bool> Has(const CudaDriver& driver, cuda::CUdevice device,
                         cuda::CUdevice_attribute attribute) {
  int value = 0;
  RETURN_IF_ERROR(
      driver.Check(driver.cuDeviceGetAttribute(&value, attribute, device), "cuDeviceGetAttribute"));
  return value != 0;
}

absl::StatusOr<ListedGpu> Describe(const CudaDriver& driver, int index) {
  ListedGpu gpu;
  gpu.index = index;
  cuda::CUdevice device = 0;
  RETURN_IF_ERROR(driver.Check(driver.cuDeviceGet(&device, index), "cuDeviceGet"));
  cuda::CUuuid uuid = {};
  RETURN_IF_ERROR(driver.Check(driver.cuDeviceGetUuid(&uuid, device), "cuDeviceGetUuid"));
  std::memcpy(gpu.uuid, uuid.bytes, sizeof(gpu.uuid));
  RETURN_IF_ERROR(
      driver.Check(driver.cuDeviceGetName(gpu.name, sizeof(gpu.name), device), "cuDeviceGetName"));
  size_t total = 0;
  RETURN_IF_ERROR(driver.Check(driver.cuDeviceTotalMem(&total, device), "cuDeviceTotalMem"));
  gpu.total_bytes = total;
  ASSIGN_OR_RETURN(
      const bool maps,
      Has(driver, device, cuda::CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED));
  ASSIGN_OR_RETURN(
      const bool exports,
      Has(driver, device, cuda::CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED));
  if (maps && exports) {
    cuda::CUmemAllocationProp properties = {};
    properties.type = cuda::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.requestedHandleTypes = cuda::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    properties.location = {cuda::CU_MEM_LOCATION_TYPE_DEVICE, device};
    size_t granularity = 0;
    RETURN_IF_ERROR(
        driver.Check(driver.cuMemGetAllocationGranularity(&granularity, &properties,
                                                          cuda::CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                     "cuMemGetAllocationGranularity"));
    gpu.granularity = granularity;
    gpu.exports_descriptors = 1;
  }
  return gpu;
}

absl::StatusOr<std::vector<ListedGpu>> DescribeAll(const std::string& library) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const CudaDriver> driver, CudaDriver::Load(library));
  RETURN_IF_ERROR(driver->Check(driver->cuInit(0), "cuInit"));
  int count = 0;
  RETURN_IF_ERROR(driver->Check(driver->cuDeviceGetCount(&count), "cuDeviceGetCount"));
  std::vector<ListedGpu> gpus;
  for (int index = 0; index < count; ++index) {
    ASSIGN_OR_RETURN(gpus.emplace_back(), Describe(*driver, index));
  }
  return gpus;
}

}  // namespace

int SendList(int socket, const std::string& driver) {
  Answers answers(socket);
  const absl::StatusOr<std::vector<ListedGpu>> gpus = DescribeAll(driver);
  if (gpus.ok()) {
    for (const ListedGpu& gpu : *gpus) {
      answers.SendBytes(BytesOf(gpu));
    }
  }
  answers.Send(0, gpus.status());
  return gpus.ok() ? 0 : 1;
}

}  // namespace weightd::device
