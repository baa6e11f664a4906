#ifndef WEIGHTD_COMMON_VERSION_H_
#define WEIGHTD_COMMON_VERSION_H_

#include <cstdint>

namespace weightd {

inline constexpr char kVersion[] = "0.1.0";

// Of the handle channel and the tensor index.
inline constexpr uint32_t kProtocolVersion = 1;

}  // namespace weightd

#endif  // WEIGHTD_COMMON_VERSION_H_
