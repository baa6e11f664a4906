#ifndef WEIGHTD_DAEMON_CACHE_BYTES_TEXT_H_
#define WEIGHTD_DAEMON_CACHE_BYTES_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"

namespace weightd::cache {

// "1.50 GiB", "0.25 MiB"
inline std::string BytesText(uint64_t bytes) {
  constexpr uint64_t kMiB = 1 << 20;
  if (bytes >= 1024 * kMiB) {
    return absl::StrFormat("%.2f GiB", static_cast<double>(bytes) / (1024.0 * kMiB));
  }
  return absl::StrFormat("%.2f MiB", static_cast<double>(bytes) / kMiB);
}

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_BYTES_TEXT_H_
