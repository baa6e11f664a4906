#ifndef WEIGHTD_COMMON_GPU_ID_H_
#define WEIGHTD_COMMON_GPU_ID_H_

#include <array>
#include <compare>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightd {

// Names one GPU, or one MIG instance of it, wherever it is seen from: the UUID that
// cuDeviceGetUuid_v2 gives. An index names a GPU only within one process (CUDA_VISIBLE_DEVICES).
class GpuId {
 public:
  static constexpr size_t kBytes = 16;

  GpuId() = default;
  explicit GpuId(const std::array<uint8_t, kBytes>& bytes) : bytes_(bytes) {}

  // From 16 raw bytes; kInvalidArgument for another number of them.
  static absl::StatusOr<GpuId> FromBytes(absl::string_view bytes);
  // From what nvidia-smi -L prints: 8-4-4-4-12 hexadecimal digits, after "GPU-", "MIG-" or nothing.
  // kInvalidArgument for anything else.
  static absl::StatusOr<GpuId> FromText(absl::string_view text);

  // "GPU-" and lower-case digits. The driver API doesn't tell a MIG instance from a GPU.
  std::string ToText() const;
  std::string ToBytes() const { return {bytes_.begin(), bytes_.end()}; }

  friend auto operator<=>(const GpuId&, const GpuId&) = default;
  template <typename H>
  friend H AbslHashValue(H hash, const GpuId& id) {
    return H::combine(std::move(hash), id.bytes_);
  }
  friend std::ostream& operator<<(std::ostream& out, const GpuId& id) { return out << id.ToText(); }

 private:
  std::array<uint8_t, kBytes> bytes_ = {};
};

}  // namespace weightd

#endif  // WEIGHTD_COMMON_GPU_ID_H_
