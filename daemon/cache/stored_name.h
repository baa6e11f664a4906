#ifndef WEIGHTD_DAEMON_CACHE_STORED_NAME_H_
#define WEIGHTD_DAEMON_CACHE_STORED_NAME_H_

#include <array>
#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "common/gpu_id.h"

// What descriptors are called in the store: what it is of, its model's place there, and which part,
// with a dot between them. A place is never used again.

namespace weightd::cache {

// A model's memfds.
enum class Part { kCard, kWeights, kIndex, kSmallFiles };
inline constexpr std::array kParts = {Part::kCard, Part::kWeights, Part::kIndex, Part::kSmallFiles};

// Hexadecimal ones, of a place.
inline constexpr size_t kPlaceDigits = 32;

// Of a name that a daemon of some build may have given.
struct NameWords {
  absl::string_view of;
  absl::string_view place;
  absl::string_view part;

  static std::optional<NameWords> In(absl::string_view name);
};

// Of a memfd: "host.", the place, the part.
struct StoredName {
  std::string place;
  Part part = Part::kCard;

  std::string ToString() const;
  static std::optional<StoredName> Parse(absl::string_view name);
};

// Of a copy on a GPU: "gpu.", the place, the GPU's UUID.
struct StoredCopyName {
  std::string place;
  GpuId gpu;

  // Of all copies of the model at that place.
  static std::string PrefixOf(absl::string_view place);
  std::string ToString() const;
  static std::optional<StoredCopyName> Parse(absl::string_view name);
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_STORED_NAME_H_
