#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_MEMORY_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_MEMORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/cuda_types.h"
#include "tests/fakes/fake_cuda/store.h"

namespace weightd::fake_cuda {

constexpr uint64_t kGranularity = 2 << 20;

// Lives while a handle, a mapping or a copy under way holds it.
using AllocationPointer = std::shared_ptr<const AllocationFile>;

// A part of an allocation that lies at some device pointer.
struct Extent {
  AllocationPointer allocation;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// The device addresses of this process and what is mapped there. An address is reserved among the
// process's own, without access: code that reads a device pointer on the CPU dies, as it does with
// a GPU. The driver's rules are those of cuMemMap and its neighbours. Thread-safe.
class AddressSpace {
 public:
  enum class Kind : uint8_t { kMapped, kAllocated, kOpened };

  cuda::CUresult Reserve(uint64_t bytes, uint64_t alignment, cuda::CUdeviceptr* pointer);
  cuda::CUresult Free(cuda::CUdeviceptr pointer, uint64_t bytes);
  cuda::CUresult Map(cuda::CUdeviceptr pointer, uint64_t bytes, AllocationPointer allocation);
  cuda::CUresult Unmap(cuda::CUdeviceptr pointer, uint64_t bytes);
  cuda::CUresult SetAccess(cuda::CUdeviceptr pointer, uint64_t bytes, int device,
                           cuda::CUmemAccess_flags flags);

  // Whole allocations at addresses of their own, accessible to `device`: cuMemAlloc's (kAllocated)
  // and those of legacy handles (kOpened), which are mapped once however often they are opened.
  cuda::CUresult Place(AllocationPointer allocation, int device, Kind kind,
                       cuda::CUdeviceptr* pointer);
  // Of the pointer that Place gave.
  cuda::CUresult Remove(cuda::CUdeviceptr pointer, Kind kind);
  // What cuMemAlloc gave, by any pointer into it; null if it is nothing of it.
  AllocationPointer FindAllocated(cuda::CUdeviceptr pointer) const;
  // Of a context that ends.
  void RemoveAllOf(int device);

  // What is at a pointer, for `device`. CUDA_ERROR_INVALID_VALUE unless all of it is mapped,
  // CUDA_ERROR_ILLEGAL_ADDRESS if the access is not allowed.
  cuda::CUresult Resolve(cuda::CUdeviceptr pointer, uint64_t bytes, int device,
                         cuda::CUmemAccess_flags access, std::vector<Extent>* extents) const;

 private:
  struct Mapping {
    uint64_t bytes = 0;
    AllocationPointer allocation;
    // By device; without an entry, none.
    std::map<int, cuda::CUmemAccess_flags> access = {};
    Kind kind = Kind::kMapped;
    int opened = 1;
  };
  using Mappings = std::map<uint64_t, Mapping>;

  Mappings::const_iterator At(uint64_t address) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The mappings that make up exactly this range; empty if none do.
  std::vector<Mappings::iterator> Exactly(uint64_t start, uint64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Mappings::iterator FindOpened(const AllocationFile& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(Mappings::iterator mapping) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  // Bytes, by first address.
  std::map<uint64_t, uint64_t> reserved_ ABSL_GUARDED_BY(mutex_);
  Mappings mappings_ ABSL_GUARDED_BY(mutex_);
};

// The handles of cuMemCreate and of imports. Thread-safe.
class AllocationHandles {
 public:
  cuda::CUmemGenericAllocationHandle Add(AllocationPointer allocation, bool exportable);
  AllocationPointer Find(cuda::CUmemGenericAllocationHandle handle) const;
  bool IsExportable(cuda::CUmemGenericAllocationHandle handle) const;
  bool Remove(cuda::CUmemGenericAllocationHandle handle);

 private:
  struct Entry {
    AllocationPointer allocation;
    bool exportable = false;
  };

  mutable absl::Mutex mutex_;
  std::map<cuda::CUmemGenericAllocationHandle, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  cuda::CUmemGenericAllocationHandle next_ ABSL_GUARDED_BY(mutex_) = 0x1000;
};

// The bytes themselves. A bad host pointer is CUDA_ERROR_INVALID_VALUE.
cuda::CUresult WriteBytes(const std::vector<Extent>& to, const void* from);
cuda::CUresult ReadBytes(const std::vector<Extent>& from, void* to);
cuda::CUresult CopyBytes(const std::vector<Extent>& to, const std::vector<Extent>& from);
cuda::CUresult FillBytes(const std::vector<Extent>& to, unsigned char value);

}  // namespace weightd::fake_cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_MEMORY_H_
