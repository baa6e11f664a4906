#include "tests/fakes/fake_cuda/memory.h"

#include <sys/mman.h>

#include <iterator>
#include <utility>

namespace weightd::fake_cuda {
namespace {

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// Addresses that nothing else in the process has, nor can read or write; 0 if there are none.
uint64_t ReserveAddresses(uint64_t bytes, uint64_t alignment) {
  void* const mapped = mmap(nullptr, bytes + alignment, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    return 0;
  }
  const auto start = reinterpret_cast<uintptr_t>(mapped);
  const uint64_t aligned = RoundUp(start, alignment);
  if (aligned != start) {
    munmap(mapped, aligned - start);
  }
  if (const uint64_t rest = start + alignment - aligned; rest != 0) {
    munmap(reinterpret_cast<void*>(aligned + bytes), rest);
  }
  return aligned;
}

void FreeAddresses(uint64_t start, uint64_t bytes) {
  munmap(reinterpret_cast<void*>(start), bytes);
}

}  // namespace

cuda::CUresult AddressSpace::Reserve(uint64_t bytes, uint64_t alignment,
                                     cuda::CUdeviceptr* pointer) {
  if (bytes == 0 || bytes % kGranularity != 0 || (alignment & (alignment - 1)) != 0) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  const uint64_t start = ReserveAddresses(bytes, std::max(alignment, kGranularity));
  if (start == 0) {
    return cuda::CUDA_ERROR_OUT_OF_MEMORY;
  }
  const absl::MutexLock lock(&mutex_);
  reserved_[start] = bytes;
  *pointer = start;
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult AddressSpace::Free(cuda::CUdeviceptr pointer, uint64_t bytes) {
  const absl::MutexLock lock(&mutex_);
  const auto reserved = reserved_.find(pointer);
  const auto mapped = mappings_.lower_bound(pointer);
  if (reserved == reserved_.end() || reserved->second != bytes ||
      (mapped != mappings_.end() && mapped->first < pointer + bytes)) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  reserved_.erase(reserved);
  FreeAddresses(pointer, bytes);
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult AddressSpace::Map(cuda::CUdeviceptr pointer, uint64_t bytes,
                                 AllocationPointer allocation) {
  const absl::MutexLock lock(&mutex_);
  auto reserved = reserved_.upper_bound(pointer);
  if (reserved == reserved_.begin() || pointer % kGranularity != 0 || bytes == 0 ||
      bytes % kGranularity != 0 || bytes > allocation->bytes) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  --reserved;
  const auto next = mappings_.lower_bound(pointer);
  if (pointer - reserved->first > reserved->second ||
      bytes > reserved->second - (pointer - reserved->first) || At(pointer) != mappings_.end() ||
      (next != mappings_.end() && next->first - pointer < bytes)) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  mappings_[pointer] = {bytes, std::move(allocation)};
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult AddressSpace::Unmap(cuda::CUdeviceptr pointer, uint64_t bytes) {
  const absl::MutexLock lock(&mutex_);
  const auto mappings = Exactly(pointer, bytes);
  for (const auto mapping : mappings) {
    if (mapping->second.kind != Kind::kMapped) {
      return cuda::CUDA_ERROR_INVALID_VALUE;
    }
  }
  for (const auto mapping : mappings) {
    mappings_.erase(mapping);
  }
  return mappings.empty() ? cuda::CUDA_ERROR_INVALID_VALUE : cuda::CUDA_SUCCESS;
}

cuda::CUresult AddressSpace::SetAccess(cuda::CUdeviceptr pointer, uint64_t bytes, int device,
                                       cuda::CUmemAccess_flags flags) {
  if (flags != cuda::CU_MEM_ACCESS_FLAGS_PROT_NONE &&
      flags != cuda::CU_MEM_ACCESS_FLAGS_PROT_READ &&
      flags != cuda::CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  const absl::MutexLock lock(&mutex_);
  const auto mappings = Exactly(pointer, bytes);
  for (const auto mapping : mappings) {
    mapping->second.access[device] = flags;
  }
  return mappings.empty() ? cuda::CUDA_ERROR_INVALID_VALUE : cuda::CUDA_SUCCESS;
}

cuda::CUresult AddressSpace::Place(AllocationPointer allocation, int device, Kind kind,
                                   cuda::CUdeviceptr* pointer) {
  const absl::MutexLock lock(&mutex_);
  if (kind == Kind::kOpened) {
    if (const auto opened = FindOpened(*allocation); opened != mappings_.end()) {
      ++opened->second.opened;
      *pointer = opened->first;
      return cuda::CUDA_SUCCESS;
    }
  }
  const uint64_t room = RoundUp(allocation->bytes, kGranularity);
  const uint64_t start = ReserveAddresses(room, kGranularity);
  if (start == 0) {
    return cuda::CUDA_ERROR_OUT_OF_MEMORY;
  }
  reserved_[start] = room;
  Mapping& mapping = mappings_[start];
  mapping.bytes = allocation->bytes;
  mapping.allocation = std::move(allocation);
  mapping.access[device] = cuda::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  mapping.kind = kind;
  *pointer = start;
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult AddressSpace::Remove(cuda::CUdeviceptr pointer, Kind kind) {
  const absl::MutexLock lock(&mutex_);
  const auto mapping = mappings_.find(pointer);
  if (mapping == mappings_.end() || mapping->second.kind != kind) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  if (--mapping->second.opened == 0) {
    Forget(mapping);
  }
  return cuda::CUDA_SUCCESS;
}

AllocationPointer AddressSpace::FindAllocated(cuda::CUdeviceptr pointer) const {
  const absl::MutexLock lock(&mutex_);
  const auto mapping = At(pointer);
  return mapping == mappings_.end() || mapping->second.kind != Kind::kAllocated
             ? nullptr
             : mapping->second.allocation;
}

void AddressSpace::RemoveAllOf(int device) {
  const absl::MutexLock lock(&mutex_);
  for (auto mapping = mappings_.begin(); mapping != mappings_.end();) {
    const auto next = std::next(mapping);
    if (mapping->second.kind != Kind::kMapped && mapping->second.access.contains(device)) {
      Forget(mapping);
    }
    mapping = next;
  }
}

cuda::CUresult AddressSpace::Resolve(cuda::CUdeviceptr pointer, uint64_t bytes, int device,
                                     cuda::CUmemAccess_flags access,
                                     std::vector<Extent>* extents) const {
  const absl::MutexLock lock(&mutex_);
  bool allowed = true;
  for (uint64_t done = 0; done < bytes;) {
    const auto found = At(pointer + done);
    if (found == mappings_.end()) {
      return cuda::CUDA_ERROR_INVALID_VALUE;
    }
    const auto& [start, mapping] = *found;
    const uint64_t offset = pointer + done - start;
    const uint64_t part = std::min(bytes - done, mapping.bytes - offset);
    const auto given = mapping.access.find(device);
    allowed = allowed && given != mapping.access.end() && (given->second & access) == access;
    extents->push_back({mapping.allocation, offset, part});
    done += part;
  }
  return allowed ? cuda::CUDA_SUCCESS : cuda::CUDA_ERROR_ILLEGAL_ADDRESS;
}

AddressSpace::Mappings::const_iterator AddressSpace::At(uint64_t address) const {
  auto mapping = mappings_.upper_bound(address);
  if (mapping == mappings_.begin()) {
    return mappings_.end();
  }
  --mapping;
  return address - mapping->first < mapping->second.bytes ? mapping : mappings_.end();
}

std::vector<AddressSpace::Mappings::iterator> AddressSpace::Exactly(uint64_t start,
                                                                    uint64_t bytes) {
  std::vector<Mappings::iterator> mappings;
  uint64_t done = 0;
  for (auto mapping = mappings_.find(start); mapping != mappings_.end() && done < bytes;
       ++mapping) {
    if (mapping->first != start + done) {
      return {};
    }
    done += mapping->second.bytes;
    mappings.push_back(mapping);
  }
  return done == bytes ? mappings : std::vector<Mappings::iterator>();
}

AddressSpace::Mappings::iterator AddressSpace::FindOpened(const AllocationFile& file) {
  auto mapping = mappings_.begin();
  for (; mapping != mappings_.end(); ++mapping) {
    const AllocationFile& other = *mapping->second.allocation;
    if (mapping->second.kind == Kind::kOpened && other.ordinal == file.ordinal &&
        other.pid == file.pid && other.sequence == file.sequence) {
      break;
    }
  }
  return mapping;
}

void AddressSpace::Forget(Mappings::iterator mapping) {
  const auto reserved = reserved_.find(mapping->first);
  FreeAddresses(reserved->first, reserved->second);
  reserved_.erase(reserved);
  mappings_.erase(mapping);
}

cuda::CUmemGenericAllocationHandle AllocationHandles::Add(AllocationPointer allocation,
                                                          bool exportable) {
  const absl::MutexLock lock(&mutex_);
  entries_[next_] = {std::move(allocation), exportable};
  return next_++;
}

AllocationPointer AllocationHandles::Find(cuda::CUmemGenericAllocationHandle handle) const {
  const absl::MutexLock lock(&mutex_);
  const auto entry = entries_.find(handle);
  return entry == entries_.end() ? nullptr : entry->second.allocation;
}

bool AllocationHandles::IsExportable(cuda::CUmemGenericAllocationHandle handle) const {
  const absl::MutexLock lock(&mutex_);
  const auto entry = entries_.find(handle);
  return entry != entries_.end() && entry->second.exportable;
}

bool AllocationHandles::Remove(cuda::CUmemGenericAllocationHandle handle) {
  const absl::MutexLock lock(&mutex_);
  return entries_.erase(handle) != 0;
}

}  // namespace weightd::fake_cuda
