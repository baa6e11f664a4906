#include "client/cli/text.h"

#include <array>

#include "absl/strings/ascii.h"
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

std::string PrintableText(absl::string_view text) {
  std::string printable;
  printable.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F, the other control characters, are C2 80 to C2 9F.
    const bool is_c1 =
        byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (absl::ascii_iscntrl(byte)) {
      absl::StrAppend(&printable, "\\x", absl::Hex(byte, absl::kZeroPad2));
    } else if (is_c1) {
      ++i;
      absl::StrAppend(&printable, "\\u00",
                      absl::Hex(static_cast<unsigned char>(text[i]), absl::kZeroPad2));
    } else {
      printable.push_back(text[i]);
    }
  }
  return printable;
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
