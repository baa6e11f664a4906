#include "client/cli/text.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weightd::cli {

std::string BytesText(uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) {
    return absl::StrCat(bytes, " B");
  }
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  // 1023.96 would be rounded to "1024.0".
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.*f %s", value < 9.95 ? 1 : 0, value, kUnits[unit]);
}

std::string DurationText(absl::Duration duration) {
  struct Unit {
    absl::Duration length;
    const char* name;
  };
  static const std::array<Unit, 4> kUnits = {Unit{absl::Hours(24), "d"}, Unit{absl::Hours(1), "h"},
                                             Unit{absl::Minutes(1), "m"},
                                             Unit{absl::Seconds(1), "s"}};
  for (size_t i = 0; i < kUnits.size(); ++i) {
    if (duration < kUnits[i].length) {
      continue;
    }
    const int64_t count = absl::IDivDuration(duration, kUnits[i].length, &duration);
    std::string first = absl::StrCat(count, kUnits[i].name);
    if (i + 1 == kUnits.size()) {
      return first;
    }
    const int64_t rest = absl::IDivDuration(duration, kUnits[i + 1].length, &duration);
    return rest == 0 ? first : absl::StrCat(first, " ", rest, kUnits[i + 1].name);
  }
  return "0s";
}

std::string TookText(absl::Duration duration) {
  if (duration < absl::Milliseconds(1)) {
    return "<1ms";
  }
  if (duration < absl::Seconds(1)) {
    return absl::StrCat(absl::ToInt64Milliseconds(duration), "ms");
  }
  return duration < absl::Minutes(1) ? absl::StrFormat("%.1fs", absl::ToDoubleSeconds(duration))
                                     : DurationText(duration);
}

size_t DisplayWidth(absl::string_view text) {
  size_t width = 0;
  for (const char c : text) {
    // Continuation bytes are 10xxxxxx.
    width += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  }
  return width;
}

}  // namespace weightd::cli
