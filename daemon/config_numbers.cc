#include "daemon/config_numbers.h"

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"

namespace weightd {
namespace {

struct Suffix {
  absl::string_view text;
  uint64_t factor;
};
constexpr Suffix kByteSuffixes[] = {
    {"KiB", uint64_t{1} << 10},
    {"MiB", uint64_t{1} << 20},
    {"GiB", uint64_t{1} << 30},
    {"TiB", uint64_t{1} << 40},
    {"kB", 1'000},
    {"MB", 1'000'000},
    {"GB", 1'000'000'000},
    {"TB", 1'000'000'000'000},
    {"", 1},
};

bool AllDigits(absl::string_view text) {
  return !text.empty() && absl::c_all_of(text, absl::ascii_isdigit);
}

std::optional<uint64_t> ParseCount(absl::string_view text) {
  uint64_t value = 0;
  return AllDigits(text) && absl::SimpleAtoi(text, &value) ? std::optional(value) : std::nullopt;
}

std::string PrintCount(uint64_t value) { return absl::StrCat(value); }

// A count and one of the suffixes; the first that fits counts.
std::optional<uint64_t> ParseWithSuffix(absl::string_view text, absl::Span<const Suffix> suffixes) {
  for (const Suffix& suffix : suffixes) {
    absl::string_view number = text;
    uint64_t product = 0;
    if (absl::ConsumeSuffix(&number, suffix.text)) {
      const std::optional<uint64_t> count = ParseCount(number);
      return count.has_value() && !__builtin_mul_overflow(*count, suffix.factor, &product)
                 ? std::optional(product)
                 : std::nullopt;
    }
  }
  return std::nullopt;
}

std::optional<uint64_t> ParseBytes(absl::string_view text) {
  return ParseWithSuffix(text, kByteSuffixes);
}

// Of those given, the largest unit that divides it.
std::string PrintInUnits(uint64_t value, absl::Span<const Suffix> units) {
  for (const Suffix& unit : units) {
    if (value > 0 && value % unit.factor == 0) {
      return absl::StrCat(value / unit.factor, unit.text);
    }
  }
  return absl::StrCat(value);
}

std::string PrintBytes(uint64_t bytes) {
  constexpr Suffix kUnits[] = {{"TiB", uint64_t{1} << 40},
                               {"GiB", uint64_t{1} << 30},
                               {"MiB", uint64_t{1} << 20},
                               {"KiB", uint64_t{1} << 10}};
  return PrintInUnits(bytes, kUnits);
}

constexpr uint64_t kBitsInByte = 8;
// In bits; as a suffix the first that fits counts, for printing the first that divides.
constexpr Suffix kRates[] = {
    {"Tb/s", 1'000'000'000'000},
    {"Gb/s", 1'000'000'000},
    {"Mb/s", 1'000'000},
    {"kb/s", 1'000},
    {"TB/s", kBitsInByte * 1'000'000'000'000},
    {"GB/s", kBitsInByte * 1'000'000'000},
    {"MB/s", kBitsInByte * 1'000'000},
    {"kB/s", kBitsInByte * 1'000},
    {"TiB/s", kBitsInByte << 40},
    {"GiB/s", kBitsInByte << 30},
    {"MiB/s", kBitsInByte << 20},
    {"KiB/s", kBitsInByte << 10},
    {"B/s", kBitsInByte},
    {"b/s", 1},
};

// Bytes a second.
std::optional<uint64_t> ParseRate(absl::string_view text) {
  const std::optional<uint64_t> bits = ParseWithSuffix(text, kRates);
  return bits.has_value() ? std::optional(*bits / kBitsInByte) : std::nullopt;
}

std::string PrintRate(uint64_t bytes) { return PrintInUnits(bytes * kBitsInByte, kRates); }

std::optional<uint64_t> ParseMode(absl::string_view text) {
  if (text.size() != 4 || text[0] != '0') {
    return std::nullopt;
  }
  uint64_t mode = 0;
  for (char c : text) {
    if (c < '0' || c > '7') {
      return std::nullopt;
    }
    mode = mode * 8 + static_cast<uint64_t>(c - '0');
  }
  return mode;
}

std::string PrintMode(uint64_t mode) { return absl::StrFormat("%04o", mode); }

}  // namespace

NumberForm FormOf(v1::Unit unit) {
  switch (unit) {
    case v1::BYTES:
      return {ParseBytes, PrintBytes, "a size such as 64GiB, 512MiB or 1000000"};
    case v1::MODE:
      return {ParseMode, PrintMode, "a file mode in octal such as 0700"};
    case v1::RATE:
      return {ParseRate, PrintRate, "a rate such as 10Gb/s (bits) or 500MB/s (bytes)"};
    default:
      return {ParseCount, PrintCount, "a whole number"};
  }
}

std::optional<GpuBudget> ParseGpuBudget(absl::string_view text) {
  absl::string_view number = text;
  if (!absl::ConsumeSuffix(&number, "%")) {
    const std::optional<uint64_t> bytes = ParseBytes(text);
    return bytes.has_value() ? std::optional(GpuBudget{.bytes = bytes}) : std::nullopt;
  }
  const std::optional<uint64_t> percent = ParseCount(number);
  if (!percent.has_value() || *percent < 1 || *percent > 100) {
    return std::nullopt;
  }
  return GpuBudget{.fraction = static_cast<double>(*percent) / 100};
}

}  // namespace weightd
