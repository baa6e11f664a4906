#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_HOST_MEMORY_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_HOST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/cuda_types.h"

namespace weightd::fake_cuda {

// The host memory of this process that the driver knows as pinned: what it allocated, and what was
// registered. Thread-safe.
class HostMemory {
 public:
  cuda::CUresult Allocate(size_t bytes, void** pointer);
  cuda::CUresult Free(void* pointer);
  // CUDA_ERROR_INVALID_VALUE for memory that is not mapped writable, or for more than `limit`
  // bytes.
  cuda::CUresult Register(void* pointer, size_t bytes, uint64_t limit);
  cuda::CUresult Unregister(void* pointer);
  // Whether a copy from there needs no staging.
  bool IsPinned(const void* pointer, size_t bytes) const;

 private:
  struct Range {
    size_t bytes = 0;
    bool registered = false;
  };

  bool Overlaps(uintptr_t start, size_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  // By first address.
  std::map<uintptr_t, Range> ranges_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::fake_cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_HOST_MEMORY_H_
