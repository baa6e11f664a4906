#ifndef WEIGHTD_COMMON_CUDA_MEMORY_H_
#define WEIGHTD_COMMON_CUDA_MEMORY_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "common/cuda_driver.h"
#include "common/cuda_types.h"
#include "common/fd.h"
#include "common/gpu_id.h"

// Owners of what the driver gives. All calls are made with the context of their CudaContext current
// in the calling thread, which they set and put back: a caller's own context is never changed.

namespace weightd {

// A GPU's primary context, retained: the one that the runtime API and frameworks use in this
// process, so that pointers are good for them. Thread-safe.
class CudaContext {
 public:
  // Calls cuInit. kDeviceNotVisible if this process sees no GPU of that UUID
  // (CUDA_VISIBLE_DEVICES, MIG, containers), with what it sees.
  static absl::StatusOr<std::shared_ptr<const CudaContext>> Retain(
      std::shared_ptr<const CudaDriver> driver, const GpuId& gpu);
  // The GPU that is `ordinal` in this process. kDeviceNotVisible if there are not so many.
  static absl::StatusOr<GpuId> GpuAt(const CudaDriver& driver, int ordinal);
  ~CudaContext();
  CudaContext(const CudaContext&) = delete;

  const CudaDriver& driver() const { return *driver_; }
  const GpuId& gpu() const { return gpu_; }
  cuda::CUdevice device() const { return device_; }

  // Makes the context current in this thread while it lives.
  class Current {
   public:
    explicit Current(const CudaContext& context);
    ~Current();
    Current(const Current&) = delete;

   private:
    const CudaDriver& driver_;
    cuda::CUcontext previous_ = nullptr;
  };

 private:
  CudaContext(std::shared_ptr<const CudaDriver> driver, const GpuId& gpu, cuda::CUdevice device,
              cuda::CUcontext context);

  const std::shared_ptr<const CudaDriver> driver_;
  const GpuId gpu_;
  const cuda::CUdevice device_;
  const cuda::CUcontext context_;
};

// Memory of a GPU, mapped in this process. Freed, or unmapped, when it dies. Move-only.
class CudaMemory {
 public:
  enum class Access { kReadOnly, kReadWrite };

  // A VMM allocation (cuMemCreate) that can be exported, mapped read-write. `bytes` is a multiple
  // of the GPU's granularity.
  static absl::StatusOr<CudaMemory> Create(std::shared_ptr<const CudaContext> context,
                                           uint64_t bytes);
  // One that another process exported: imports, reserves, maps, sets access. The descriptor may be
  // closed afterwards.
  static absl::StatusOr<CudaMemory> Import(std::shared_ptr<const CudaContext> context, int fd,
                                           uint64_t bytes, Access access);
  // The same of a descriptor that may be anything, read-only: kVerificationFailed unless it is a
  // VMM allocation on this GPU that has at least so many bytes.
  static absl::StatusOr<CudaMemory> ImportUnproven(std::shared_ptr<const CudaContext> context,
                                                   int fd, uint64_t bytes);
  // cuMemAlloc: what legacy handles can be of.
  static absl::StatusOr<CudaMemory> Allocate(std::shared_ptr<const CudaContext> context,
                                             uint64_t bytes);
  // Another process's, by its legacy handle. Not in the process that exported it (the driver
  // refuses).
  static absl::StatusOr<CudaMemory> OpenLegacy(std::shared_ptr<const CudaContext> context,
                                               const cuda::CUipcMemHandle& handle, uint64_t bytes);

  CudaMemory() = default;
  ~CudaMemory() { Free(); }
  CudaMemory(CudaMemory&& other) noexcept { *this = std::move(other); }
  CudaMemory& operator=(CudaMemory&& other) noexcept;

  cuda::CUdeviceptr pointer() const { return pointer_; }
  uint64_t bytes() const { return bytes_; }
  const CudaContext& context() const { return *context_; }

  // Of one from Create: a descriptor that another process can import.
  absl::StatusOr<Fd> Export() const;
  // Of one from Allocate.
  absl::StatusOr<cuda::CUipcMemHandle> LegacyHandle() const;

 private:
  enum class Kind : uint8_t { kNone, kMapped, kAllocated, kLegacyOpen };
  // Maps the allocation, which it owns from here on, also if that fails. The context is current.
  static absl::StatusOr<CudaMemory> Mapped(std::shared_ptr<const CudaContext> context,
                                           cuda::CUmemGenericAllocationHandle handle,
                                           uint64_t bytes, Access access);
  void Free();

  std::shared_ptr<const CudaContext> context_;
  Kind kind_ = Kind::kNone;
  cuda::CUdeviceptr pointer_ = 0;
  uint64_t bytes_ = 0;
  cuda::CUmemGenericAllocationHandle handle_ = 0;
};

}  // namespace weightd

#endif  // WEIGHTD_COMMON_CUDA_MEMORY_H_
