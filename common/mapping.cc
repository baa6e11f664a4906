#include "common/mapping.h"

#include <sys/mman.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/status.h"

namespace weightd {
namespace {

struct Flags {
  int protection;
  int flags;
};

Flags FlagsOf(Mapping::Access access) {
  switch (access) {
    case Mapping::Access::kSharedWritable:
      return {PROT_READ | PROT_WRITE, MAP_SHARED};
    case Mapping::Access::kSharedReadOnly:
      return {PROT_READ, MAP_SHARED};
    case Mapping::Access::kPrivateWritable:
      return {PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE};
  }
  return {PROT_NONE, MAP_PRIVATE};
}

}  // namespace

absl::StatusOr<Mapping> Mapping::Map(int fd, size_t size, Access access) {
  if (size == 0) {
    return Mapping();
  }
  // Reserve enough to hold an aligned range, map over it, and give the rest back.
  const size_t reserved = AlignUp(size, kPageBytes) + kHugePageBytes;
  void* reservation =
      mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reservation == MAP_FAILED) {
    return ErrnoError(errno, absl::StrCat("reserve ", reserved, " bytes of addresses"));
  }
  auto* const begin = static_cast<std::byte*>(reservation);
  const auto address = reinterpret_cast<uintptr_t>(begin);
  std::byte* const aligned = begin + (AlignUp(address, kHugePageBytes) - address);
  const Flags flags = FlagsOf(access);
  if (mmap(aligned, size, flags.protection, flags.flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
    const int error_number = errno;
    munmap(reservation, reserved);
    return ErrnoError(error_number, absl::StrCat("map ", size, " bytes"));
  }
  std::byte* const mapped_end = aligned + AlignUp(size, kPageBytes);
  if (aligned != begin) {
    munmap(begin, aligned - begin);
  }
  if (mapped_end != begin + reserved) {
    munmap(mapped_end, begin + reserved - mapped_end);
  }
  return Mapping(aligned, size);
}

void Mapping::Reset() {
  if (data_ != nullptr) {
    munmap(data_, size_);
    data_ = nullptr;
    size_ = 0;
  }
}

}  // namespace weightd
