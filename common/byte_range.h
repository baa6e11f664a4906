#ifndef WEIGHTD_COMMON_BYTE_RANGE_H_
#define WEIGHTD_COMMON_BYTE_RANGE_H_

#include <cstdint>
#include <ostream>

namespace weightd {

// Half-open: the bytes from `begin` up to, not including, `end`. A valid range has begin <= end.
struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t size() const { return end - begin; }
  bool empty() const { return begin == end; }
  bool Contains(ByteRange other) const { return begin <= other.begin && other.end <= end; }

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
  friend std::ostream& operator<<(std::ostream& out, ByteRange range) {
    return out << '[' << range.begin << ", " << range.end << ')';
  }
};

// `alignment` is a power of two.
constexpr uint64_t AlignDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}

// Wraps for values within `alignment` of 2^64: check sizes first.
constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return AlignDown(value + alignment - 1, alignment);
}

// Host memory comes in pages; segments and budgets are counted in them.
inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kHugePageBytes = 2 << 20;

}  // namespace weightd

#endif  // WEIGHTD_COMMON_BYTE_RANGE_H_
