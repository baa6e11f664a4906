#include "common/cuda_memory.h"

#include <bit>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"

namespace weightd {
namespace {

cuda::CUmemAllocationProp PropertiesOn(cuda::CUdevice device) {
  cuda::CUmemAllocationProp properties = {};
  properties.type = cuda::CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = cuda::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  properties.location = {cuda::CU_MEM_LOCATION_TYPE_DEVICE, device};
  return properties;
}

absl::StatusOr<GpuId> IdOf(const CudaDriver& driver, cuda::CUdevice device) {
  cuda::CUuuid uuid = {};
  RETURN_IF_ERROR(driver.Check(driver.cuDeviceGetUuid(&uuid, device), "cuDeviceGetUuid"));
  return GpuId::FromBytes({uuid.bytes, sizeof(uuid.bytes)});
}

// The driver says "no device" of a process that CUDA_VISIBLE_DEVICES hides all from: it sees none.
absl::StatusOr<int> CountDevices(const CudaDriver& driver) {
  const cuda::CUresult result = driver.cuInit(0);
  if (result == cuda::CUDA_ERROR_NO_DEVICE) {
    return 0;
  }
  RETURN_IF_ERROR(driver.Check(result, "cuInit"));
  int count = 0;
  RETURN_IF_ERROR(driver.Check(driver.cuDeviceGetCount(&count), "cuDeviceGetCount"));
  return count;
}

absl::Status NotVisible(absl::string_view wanted, const std::vector<std::string>& visible) {
  return Error(Reason::kDeviceNotVisible,
               absl::StrCat("this process does not see ", wanted, "; it sees ",
                            visible.empty() ? "no GPU" : absl::StrJoin(visible, ", ")),
               "see CUDA_VISIBLE_DEVICES, the container's GPUs and MIG");
}

// Maps all of `handle` at a fresh address.
absl::StatusOr<cuda::CUdeviceptr> Map(const CudaContext& context,
                                      cuda::CUmemGenericAllocationHandle handle, uint64_t bytes,
                                      CudaMemory::Access access) {
  const CudaDriver& driver = context.driver();
  cuda::CUdeviceptr pointer = 0;
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemAddressReserve(&pointer, bytes, 0, 0, 0), "cuMemAddressReserve"));
  absl::Status mapped = driver.Check(driver.cuMemMap(pointer, bytes, 0, handle, 0), "cuMemMap");
  if (mapped.ok()) {
    const cuda::CUmemAccessDesc description = {
        {cuda::CU_MEM_LOCATION_TYPE_DEVICE, context.device()},
        access == CudaMemory::Access::kReadOnly ? cuda::CU_MEM_ACCESS_FLAGS_PROT_READ
                                                : cuda::CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    mapped = driver.Check(driver.cuMemSetAccess(pointer, bytes, &description, 1), "cuMemSetAccess");
    if (mapped.ok()) {
      return pointer;
    }
    driver.cuMemUnmap(pointer, bytes);
  }
  driver.cuMemAddressFree(pointer, bytes);
  return mapped;
}

absl::StatusOr<cuda::CUmemGenericAllocationHandle> HandleOf(const CudaDriver& driver, int fd) {
  // The driver takes the descriptor's number where other platforms pass a pointer.
  void* const shareable = std::bit_cast<void*>(static_cast<intptr_t>(fd));
  cuda::CUmemGenericAllocationHandle handle = 0;
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemImportFromShareableHandle(
                       &handle, shareable, cuda::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                   "cuMemImportFromShareableHandle"));
  return handle;
}

// That the memory is not what it should be, unless it is CUDA that has failed.
absl::Status Unproven(const absl::Status& why, absl::string_view what) {
  return CudaDriver::NeedsProcessExit(why) || ReasonOf(why) != Reason::kInternal
             ? why
             : Error(Reason::kVerificationFailed, absl::StrCat(what, ": ", why.message()));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const CudaContext>> CudaContext::Retain(
    std::shared_ptr<const CudaDriver> driver, const GpuId& gpu) {
  ASSIGN_OR_RETURN(const int count, CountDevices(*driver));
  std::vector<std::string> visible;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    cuda::CUdevice device = 0;
    RETURN_IF_ERROR(driver->Check(driver->cuDeviceGet(&device, ordinal), "cuDeviceGet"));
    ASSIGN_OR_RETURN(const GpuId id, IdOf(*driver, device));
    if (id == gpu) {
      cuda::CUcontext context = nullptr;
      RETURN_IF_ERROR(driver->Check(driver->cuDevicePrimaryCtxRetain(&context, device),
                                    "cuDevicePrimaryCtxRetain"));
      return std::shared_ptr<const CudaContext>(
          new CudaContext(std::move(driver), gpu, device, context));
    }
    visible.push_back(id.ToText());
  }
  return NotVisible(gpu.ToText(), visible);
}

absl::StatusOr<GpuId> CudaContext::GpuAt(const CudaDriver& driver, int ordinal) {
  ASSIGN_OR_RETURN(const int count, CountDevices(driver));
  if (ordinal < 0 || ordinal >= count) {
    return Error(Reason::kDeviceNotVisible,
                 absl::StrCat("this process sees ", count, " GPUs, none is number ", ordinal),
                 "see CUDA_VISIBLE_DEVICES, the container's GPUs and MIG");
  }
  cuda::CUdevice device = 0;
  RETURN_IF_ERROR(driver.Check(driver.cuDeviceGet(&device, ordinal), "cuDeviceGet"));
  return IdOf(driver, device);
}

CudaContext::CudaContext(std::shared_ptr<const CudaDriver> driver, const GpuId& gpu,
                         cuda::CUdevice device, cuda::CUcontext context)
    : driver_(std::move(driver)), gpu_(gpu), device_(device), context_(context) {}

CudaContext::~CudaContext() { driver_->cuDevicePrimaryCtxRelease(device_); }

// Neither call fails but for a driver that is not initialized, which the context excludes; the
// calls made while it is current say so if it is lost.
CudaContext::Current::Current(const CudaContext& context) : driver_(context.driver()) {
  driver_.cuCtxGetCurrent(&previous_);
  driver_.cuCtxSetCurrent(context.context_);
}

CudaContext::Current::~Current() { driver_.cuCtxSetCurrent(previous_); }

absl::StatusOr<CudaMemory> CudaMemory::Create(std::shared_ptr<const CudaContext> context,
                                              uint64_t bytes) {
  const CudaContext::Current current(*context);
  const CudaDriver& driver = context->driver();
  const cuda::CUmemAllocationProp properties = PropertiesOn(context->device());
  cuda::CUmemGenericAllocationHandle handle = 0;
  RETURN_IF_ERROR(driver.Check(driver.cuMemCreate(&handle, bytes, &properties, 0), "cuMemCreate"));
  return Mapped(context, handle, bytes, Access::kReadWrite);  // outlives `current`
}

absl::StatusOr<CudaMemory> CudaMemory::Import(std::shared_ptr<const CudaContext> context, int fd,
                                              uint64_t bytes, Access access) {
  const CudaContext::Current current(*context);
  ASSIGN_OR_RETURN(const auto handle, HandleOf(context->driver(), fd));
  return Mapped(context, handle, bytes, access);  // outlives `current`
}

absl::StatusOr<CudaMemory> CudaMemory::ImportUnproven(std::shared_ptr<const CudaContext> context,
                                                      int fd, uint64_t bytes) {
  const CudaContext::Current current(*context);
  const CudaDriver& driver = context->driver();
  const auto handle = HandleOf(driver, fd);
  if (!handle.ok()) {
    return Unproven(handle.status(), "not what a GPU exports");
  }
  cuda::CUmemAllocationProp properties = {};
  const absl::Status asked =
      driver.Check(driver.cuMemGetAllocationPropertiesFromHandle(&properties, *handle),
                   "cuMemGetAllocationPropertiesFromHandle");
  const bool here = properties.location.type == cuda::CU_MEM_LOCATION_TYPE_DEVICE &&
                    properties.location.id == context->device();
  if (!asked.ok() || !here) {
    driver.cuMemRelease(*handle);
    RETURN_IF_ERROR(asked);
    return Error(Reason::kVerificationFailed, "memory of another GPU");
  }
  auto memory = Mapped(context, *handle, bytes, Access::kReadOnly);  // outlives `current`
  if (!memory.ok()) {
    return Unproven(memory.status(), absl::StrCat("can't be mapped as ", bytes, " bytes"));
  }
  return memory;
}

absl::StatusOr<CudaMemory> CudaMemory::Mapped(std::shared_ptr<const CudaContext> context,
                                              cuda::CUmemGenericAllocationHandle handle,
                                              uint64_t bytes, Access access) {
  const auto pointer = Map(*context, handle, bytes, access);
  if (!pointer.ok()) {
    context->driver().cuMemRelease(handle);
    return pointer.status();
  }
  CudaMemory memory;
  memory.context_ = std::move(context);
  memory.kind_ = Kind::kMapped;
  memory.pointer_ = *pointer;
  memory.bytes_ = bytes;
  memory.handle_ = handle;
  return memory;
}

absl::StatusOr<CudaMemory> CudaMemory::Allocate(std::shared_ptr<const CudaContext> context,
                                                uint64_t bytes) {
  const CudaContext::Current current(*context);
  const CudaDriver& driver = context->driver();
  CudaMemory memory;
  RETURN_IF_ERROR(driver.Check(driver.cuMemAlloc(&memory.pointer_, bytes), "cuMemAlloc"));
  memory.context_ = std::move(context);
  memory.kind_ = Kind::kAllocated;
  memory.bytes_ = bytes;
  return memory;
}

absl::StatusOr<CudaMemory> CudaMemory::OpenLegacy(std::shared_ptr<const CudaContext> context,
                                                  const cuda::CUipcMemHandle& handle,
                                                  uint64_t bytes) {
  const CudaContext::Current current(*context);
  const CudaDriver& driver = context->driver();
  CudaMemory memory;
  RETURN_IF_ERROR(driver.Check(
      driver.cuIpcOpenMemHandle(&memory.pointer_, handle, cuda::CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS),
      "cuIpcOpenMemHandle"));
  memory.context_ = std::move(context);
  memory.kind_ = Kind::kLegacyOpen;
  memory.bytes_ = bytes;
  return memory;
}

CudaMemory& CudaMemory::operator=(CudaMemory&& other) noexcept {
  if (this != &other) {
    Free();
    context_ = std::move(other.context_);
    kind_ = std::exchange(other.kind_, Kind::kNone);
    pointer_ = std::exchange(other.pointer_, 0);
    bytes_ = std::exchange(other.bytes_, 0);
    handle_ = std::exchange(other.handle_, 0);
  }
  return *this;
}

absl::StatusOr<Fd> CudaMemory::Export() const {
  if (kind_ != Kind::kMapped) {
    return Error(Reason::kInternal, "this GPU memory can't be exported as a descriptor");
  }
  const CudaContext::Current current(*context_);
  const CudaDriver& driver = context_->driver();
  int fd = -1;
  RETURN_IF_ERROR(driver.Check(driver.cuMemExportToShareableHandle(
                                   &fd, handle_, cuda::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
                               "cuMemExportToShareableHandle"));
  return Fd(fd);
}

absl::StatusOr<cuda::CUipcMemHandle> CudaMemory::LegacyHandle() const {
  if (kind_ != Kind::kAllocated) {
    return Error(Reason::kInternal, "this GPU memory has no legacy handle");
  }
  const CudaContext::Current current(*context_);
  const CudaDriver& driver = context_->driver();
  cuda::CUipcMemHandle handle = {};
  RETURN_IF_ERROR(driver.Check(driver.cuIpcGetMemHandle(&handle, pointer_), "cuIpcGetMemHandle"));
  return handle;
}

// What fails here fails because CUDA has failed for this process, whose end frees everything.
void CudaMemory::Free() {
  if (kind_ == Kind::kNone) {
    return;
  }
  const CudaContext::Current current(*context_);
  const CudaDriver& driver = context_->driver();
  switch (std::exchange(kind_, Kind::kNone)) {
    case Kind::kNone:
      break;
    case Kind::kMapped:
      driver.cuMemUnmap(pointer_, bytes_);
      driver.cuMemAddressFree(pointer_, bytes_);
      driver.cuMemRelease(handle_);
      break;
    case Kind::kAllocated:
      driver.cuMemFree(pointer_);
      break;
    case Kind::kLegacyOpen:
      driver.cuIpcCloseMemHandle(pointer_);
      break;
  }
}

}  // namespace weightd
