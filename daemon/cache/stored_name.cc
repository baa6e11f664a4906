#include "daemon/cache/stored_name.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace weightd::cache {
namespace {

constexpr absl::string_view kHost = "host";
constexpr absl::string_view kGpu = "gpu";

absl::string_view TextOf(Part part) {
  switch (part) {
    case Part::kCard:
      return "card";
    case Part::kWeights:
      return "weights";
    case Part::kIndex:
      return "index";
    case Part::kSmallFiles:
      break;
  }
  return "files";
}

}  // namespace

std::optional<NameWords> NameWords::In(absl::string_view name) {
  const std::vector<absl::string_view> words = absl::StrSplit(name, '.');
  if (words.size() != 3 || words[1].size() != kPlaceDigits ||
      !std::all_of(words[1].begin(), words[1].end(), absl::ascii_isxdigit)) {
    return std::nullopt;
  }
  return NameWords{.of = words[0], .place = words[1], .part = words[2]};
}

std::string StoredName::ToString() const {
  return absl::StrCat(kHost, ".", place, ".", TextOf(part));
}

std::optional<StoredName> StoredName::Parse(absl::string_view name) {
  const std::optional<NameWords> words = NameWords::In(name);
  if (!words.has_value() || words->of != kHost) {
    return std::nullopt;
  }
  const auto part = std::find_if(kParts.begin(), kParts.end(),
                                 [&](Part one) { return TextOf(one) == words->part; });
  return part == kParts.end()
             ? std::nullopt
             : std::optional(StoredName{.place = std::string(words->place), .part = *part});
}

std::string StoredCopyName::PrefixOf(absl::string_view place) {
  return absl::StrCat(kGpu, ".", place, ".");
}

std::string StoredCopyName::ToString() const { return PrefixOf(place) + gpu.ToText(); }

std::optional<StoredCopyName> StoredCopyName::Parse(absl::string_view name) {
  const std::optional<NameWords> words = NameWords::In(name);
  if (!words.has_value() || words->of != kGpu) {
    return std::nullopt;
  }
  const absl::StatusOr<GpuId> gpu = GpuId::FromText(words->part);
  if (!gpu.ok()) {
    return std::nullopt;
  }
  StoredCopyName parsed = {.place = std::string(words->place), .gpu = *gpu};
  // By its name it is taken out.
  return parsed.ToString() == name ? std::optional(std::move(parsed)) : std::nullopt;
}

}  // namespace weightd::cache
