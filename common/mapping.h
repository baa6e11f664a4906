#ifndef WEIGHTD_COMMON_MAPPING_H_
#define WEIGHTD_COMMON_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace weightd {

// Owns a range of this process's address space; unmaps it when it dies.
class Mapping {
 public:
  enum class Access {
    kSharedWritable,   // stores reach the file
    kSharedReadOnly,   // stores fault
    kPrivateWritable,  // a store makes a page of our own; no swap or commit charge for untouched
                       // pages
  };

  Mapping() = default;
  ~Mapping() { Reset(); }
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      Reset();
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }

  // Maps the first `size` bytes of `fd`; size 0 gives an empty mapping. The address is a multiple
  // of 2 MiB, so that it is congruent to the file's offset and the kernel can map huge pages whole.
  static absl::StatusOr<Mapping> Map(int fd, size_t size, Access access);

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  absl::Span<std::byte> span() const { return {data_, size_}; }
  void Reset();

 private:
  Mapping(std::byte* data, size_t size) : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace weightd

#endif  // WEIGHTD_COMMON_MAPPING_H_
