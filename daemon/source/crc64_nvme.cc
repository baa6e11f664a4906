#include "daemon/source/crc64_nvme.h"

#include <immintrin.h>

#include <array>
#include <cstring>

// Polynomials are bit-reflected: the lowest bit is the coefficient of the highest power, so that a
// byte's first bit in transmission order is its lowest.

namespace weightd::source {
namespace {

constexpr uint64_t kPolynomial = 0x9a6c9329ac4bc9b5;

constexpr uint64_t TimesX(uint64_t p) { return (p >> 1) ^ ((p & 1) != 0 ? kPolynomial : 0); }

// x^n modulo the polynomial.
constexpr uint64_t PowerOfX(int n) {
  uint64_t power = uint64_t{1} << 63;
  for (int i = 0; i < n; ++i) {
    power = TimesX(power);
  }
  return power;
}

// "Slicing by 8": tables[k][b] is what byte b followed by k zero bytes adds.
using Tables = std::array<std::array<uint64_t, 256>, 8>;
constexpr Tables MakeTables() {
  Tables tables{};
  for (size_t b = 0; b < 256; ++b) {
    uint64_t crc = b;
    for (int bit = 0; bit < 8; ++bit) {
      crc = TimesX(crc);
    }
    tables[0][b] = crc;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (size_t b = 0; b < 256; ++b) {
      const uint64_t before = tables[k - 1][b];
      tables[k][b] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

// Without the inversions at the beginning and the end.
uint64_t UpdateByTables(uint64_t state, const std::byte* data, size_t size) {
  for (; size >= 8; data += 8, size -= 8) {
    uint64_t word = 0;
    memcpy(&word, data, sizeof(word));
    word ^= state;
    state = 0;
    for (size_t k = 0; k < 8; ++k) {
      state ^= kTables[7 - k][(word >> (8 * k)) & 0xff];
    }
  }
  for (; size > 0; ++data, --size) {
    state = (state >> 8) ^ kTables[0][(state ^ static_cast<uint64_t>(*data)) & 0xff];
  }
  return state;
}

#define WEIGHTD_PCLMUL __attribute__((target("pclmul,sse4.1")))

// Multipliers that move 128 bits `Bits` ahead. A carry-less product of reflected polynomials comes
// out times x, hence the -1. The low half holds the higher powers.
template <int Bits>
WEIGHTD_PCLMUL __m128i Ahead() {
  static constexpr uint64_t kLow = PowerOfX(Bits + 64 - 1);
  static constexpr uint64_t kHigh = PowerOfX(Bits - 1);
  return _mm_set_epi64x(static_cast<int64_t>(kHigh), static_cast<int64_t>(kLow));
}

WEIGHTD_PCLMUL __m128i Fold(__m128i state, __m128i ahead, __m128i next) {
  return _mm_xor_si128(next, _mm_xor_si128(_mm_clmulepi64_si128(state, ahead, 0x00),
                                           _mm_clmulepi64_si128(state, ahead, 0x11)));
}

WEIGHTD_PCLMUL __m128i Load(const std::byte* data) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
}

constexpr size_t kLanes = 8;
constexpr size_t kLaneBytes = 16;
constexpr size_t kBlockBytes = kLanes * kLaneBytes;

// "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Gopal et al., 2009):
// eight lanes of 16 bytes are folded ahead, then into one another. The 16 bytes that remain are
// congruent to all that went into them.
WEIGHTD_PCLMUL uint64_t UpdateByFolding(uint64_t state, const std::byte* data, size_t size) {
  __m128i lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) {
    lanes[i] = Load(data + i * kLaneBytes);
  }
  lanes[0] = _mm_xor_si128(lanes[0], _mm_set_epi64x(0, static_cast<int64_t>(state)));
  const __m128i block_ahead = Ahead<8 * kBlockBytes>();
  for (data += kBlockBytes, size -= kBlockBytes; size >= kBlockBytes;
       data += kBlockBytes, size -= kBlockBytes) {
    for (size_t i = 0; i < kLanes; ++i) {
      lanes[i] = Fold(lanes[i], block_ahead, Load(data + i * kLaneBytes));
    }
  }
  const __m128i lane_ahead = Ahead<8 * kLaneBytes>();
  __m128i all = lanes[0];
  for (size_t i = 1; i < kLanes; ++i) {
    all = Fold(all, lane_ahead, lanes[i]);
  }
  std::byte rest[kLaneBytes];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(rest), all);
  return UpdateByTables(UpdateByTables(0, rest, sizeof(rest)), data, size);
}

}  // namespace

uint64_t Crc64NvmeByTables(uint64_t crc, absl::Span<const std::byte> bytes) {
  return ~UpdateByTables(~crc, bytes.data(), bytes.size());
}

uint64_t Crc64Nvme(uint64_t crc, absl::Span<const std::byte> bytes) {
  static const bool kFolds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  if (!kFolds || bytes.size() < kBlockBytes) {
    return Crc64NvmeByTables(crc, bytes);
  }
  return ~UpdateByFolding(~crc, bytes.data(), bytes.size());
}

}  // namespace weightd::source
