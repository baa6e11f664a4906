#include "tests/fakes/fake_cuda/host_memory.h"

#include <sys/mman.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace weightd::fake_cuda {
namespace {

// Whether every page of it is mapped, readable and writable.
bool IsWritable(uintptr_t start, size_t bytes) {
  std::ifstream maps("/proc/self/maps");
  uintptr_t covered = start;
  for (std::string line; covered < start + bytes && std::getline(maps, line);) {
    // "7f0000000000-7f0000001000 rw-s ...", in rising order.
    const std::vector<absl::string_view> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    const std::vector<absl::string_view> ends = absl::StrSplit(words[0], '-');
    uint64_t from = 0;
    uint64_t to = 0;
    if (words.size() < 2 || ends.size() != 2 || !absl::SimpleHexAtoi(ends[0], &from) ||
        !absl::SimpleHexAtoi(ends[1], &to)) {
      return false;
    }
    if (from > covered) {
      return false;
    }
    if (to > covered) {
      if (words[1].substr(0, 2) != "rw") {
        return false;
      }
      covered = to;
    }
  }
  return covered >= start + bytes;
}

}  // namespace

cuda::CUresult HostMemory::Allocate(size_t bytes, void** pointer) {
  if (bytes == 0) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  void* const mapped =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return cuda::CUDA_ERROR_OUT_OF_MEMORY;
  }
  const absl::MutexLock lock(&mutex_);
  ranges_[reinterpret_cast<uintptr_t>(mapped)] = {bytes, false};
  *pointer = mapped;
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult HostMemory::Free(void* pointer) {
  const absl::MutexLock lock(&mutex_);
  const auto range = ranges_.find(reinterpret_cast<uintptr_t>(pointer));
  if (range == ranges_.end() || range->second.registered) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  munmap(pointer, range->second.bytes);
  ranges_.erase(range);
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult HostMemory::Register(void* pointer, size_t bytes, uint64_t limit) {
  const auto start = reinterpret_cast<uintptr_t>(pointer);
  const absl::MutexLock lock(&mutex_);
  if (bytes == 0 || bytes > limit || start + bytes < start) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  if (Overlaps(start, bytes)) {
    return cuda::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  }
  if (!IsWritable(start, bytes)) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  ranges_[start] = {bytes, true};
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult HostMemory::Unregister(void* pointer) {
  const absl::MutexLock lock(&mutex_);
  const auto range = ranges_.find(reinterpret_cast<uintptr_t>(pointer));
  if (range == ranges_.end() || !range->second.registered) {
    return cuda::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  }
  ranges_.erase(range);
  return cuda::CUDA_SUCCESS;
}

bool HostMemory::IsPinned(const void* pointer, size_t bytes) const {
  const auto start = reinterpret_cast<uintptr_t>(pointer);
  const absl::MutexLock lock(&mutex_);
  auto range = ranges_.upper_bound(start);
  if (range == ranges_.begin()) {
    return false;
  }
  --range;
  const uintptr_t offset = start - range->first;
  return offset <= range->second.bytes && bytes <= range->second.bytes - offset;
}

bool HostMemory::Overlaps(uintptr_t start, size_t bytes) const {
  const auto after = ranges_.lower_bound(start + bytes);
  if (after == ranges_.begin()) {
    return false;
  }
  const auto last = std::prev(after);
  return last->first + last->second.bytes > start;
}

}  // namespace weightd::fake_cuda
