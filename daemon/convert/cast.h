#ifndef WEIGHTD_DAEMON_CONVERT_CAST_H_
#define WEIGHTD_DAEMON_CONVERT_CAST_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "common/dtype.h"

namespace weightd::convert {

// Whether a tensor of this type is cast to others: F64, F32, F16 and BF16.
bool IsCastable(DType dtype);

// What `bytes` of elements of `from` become. Pure.
uint64_t CastBytes(DType from, DType to, uint64_t bytes);

// Casts elements of `from` to `to`, both castable, to the nearest value, of two as near the even
// one (IEEE 754, roundTiesToEven); what is too large becomes infinite, NaNs stay NaNs. `out` has
// room for as many elements, and may begin where `in` does if they don't become wider. Pure.
void Cast(DType from, DType to, absl::Span<const std::byte> in, absl::Span<std::byte> out);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_CAST_H_
