#include "daemon/format/tensorizer_dtype.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace weightd::format {
namespace {

struct Named {
  absl::string_view name;
  DType dtype;
};

constexpr Named kNumpyTypes[] = {
    {"b1", DType::kBool}, {"i1", DType::kI8},    {"u1", DType::kU8},  {"i2", DType::kI16},
    {"u2", DType::kU16},  {"i4", DType::kI32},   {"u4", DType::kU32}, {"i8", DType::kI64},
    {"u8", DType::kU64},  {"f2", DType::kF16},   {"f4", DType::kF32}, {"f8", DType::kF64},
    {"c8", DType::kC64},  {"c16", DType::kC128},
};

constexpr Named kTorchTypes[] = {
    {"bfloat16", DType::kBf16},         {"complex32", DType::kC32},
    {"float8_e4m3fn", DType::kF8E4m3},  {"float8_e4m3fnuz", DType::kF8E4m3fnuz},
    {"float8_e5m2", DType::kF8E5m2},    {"float8_e5m2fnuz", DType::kF8E5m2fnuz},
    {"float8_e8m0fnu", DType::kF8E8m0},
};

template <size_t N>
std::optional<DType> Find(const Named (&types)[N], absl::string_view name) {
  const auto* const found =
      std::find_if(types, types + N, [name](const Named& type) { return type.name == name; });
  return found == types + N ? std::nullopt : std::optional(found->dtype);
}

// The size that "V2" states. Nine digits are more than any element needs.
std::optional<uint64_t> OpaqueBytes(absl::string_view storage) {
  uint64_t bytes = 0;
  const bool digits = absl::ConsumePrefix(&storage, "V") && storage.size() <= 9 &&
                      std::all_of(storage.begin(), storage.end(), absl::ascii_isdigit);
  if (!digits || !absl::SimpleAtoi(storage, &bytes) || bytes == 0) {
    return std::nullopt;
  }
  return bytes;
}

bool IsSignedInteger(absl::string_view name) {
  return name.size() == 4 && absl::StartsWith(name, "int") && '1' <= name[3] && name[3] <= '7';
}

ElementType AsInteger(uint64_t bytes, absl::string_view name) {
  const bool is_signed = IsSignedInteger(name);
  std::string torch_type(name);
  switch (bytes) {
    case 1:
      return {is_signed ? DType::kI8 : DType::kU8, std::move(torch_type)};
    case 2:
      return {is_signed ? DType::kI16 : DType::kU16, std::move(torch_type)};
    case 4:
      return {is_signed ? DType::kI32 : DType::kU32, std::move(torch_type)};
    case 8:
      return {is_signed ? DType::kI64 : DType::kU64, std::move(torch_type)};
    default:
      return {DType::kU8, std::move(torch_type), bytes};
  }
}

std::optional<ElementType> ParseOpaque(absl::string_view storage, absl::string_view name) {
  const std::optional<uint64_t> bytes = OpaqueBytes(storage);
  const bool named = absl::ConsumePrefix(&name, "torch.") && !name.empty() &&
                     std::all_of(name.begin(), name.end(), [](unsigned char letter) {
                       return absl::ascii_isalnum(letter) || letter == '_';
                     });
  if (!bytes.has_value() || !named) {
    return std::nullopt;
  }
  const std::optional<DType> dtype = Find(kTorchTypes, name);
  if (!dtype.has_value()) {
    return AsInteger(*bytes, name);
  }
  if (DTypeBits(*dtype) != *bytes * 8) {
    return std::nullopt;
  }
  return ElementType{*dtype};
}

}  // namespace

std::optional<ElementType> ParseTensorizerDType(absl::string_view text) {
  // '=' is this machine's order, which is little-endian, and so is the order of numbers of a byte.
  if (!text.empty() && absl::StrContains("<|=", text[0])) {
    text.remove_prefix(1);
  }
  const size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return ParseOpaque(text.substr(0, nul), text.substr(nul + 1));
  }
  const std::optional<DType> dtype = Find(kNumpyTypes, text);
  if (!dtype.has_value()) {
    return std::nullopt;
  }
  return ElementType{*dtype};
}

std::string TensorizerDTypeText(DType dtype, absl::string_view torch_type) {
  const uint32_t bytes = DTypeBits(dtype) / 8;
  const absl::string_view order = bytes == 1 ? "|" : "<";
  if (torch_type.empty()) {
    for (const Named& type : kNumpyTypes) {
      if (type.dtype == dtype) {
        return absl::StrCat(order, type.name);
      }
    }
    for (const Named& type : kTorchTypes) {
      if (type.dtype == dtype) {
        torch_type = type.name;
      }
    }
  }
  if (torch_type.empty()) {
    return "";
  }
  return absl::StrCat(order, "V", bytes, absl::string_view("\0", 1), "torch.", torch_type);
}

}  // namespace weightd::format
