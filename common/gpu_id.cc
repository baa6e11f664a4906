#include "common/gpu_id.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd {
namespace {

// Where the dashes are in a UUID's text.
constexpr std::array<size_t, 4> kDashes = {8, 13, 18, 23};
constexpr size_t kTextSize = 36;

bool IsUuid(absl::string_view text) {
  if (text.size() != kTextSize) {
    return false;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const bool dash = std::find(kDashes.begin(), kDashes.end(), i) != kDashes.end();
    if (dash ? text[i] != '-' : !absl::ascii_isxdigit(static_cast<unsigned char>(text[i]))) {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<GpuId> GpuId::FromBytes(absl::string_view bytes) {
  if (bytes.size() != kBytes) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("a GPU's UUID has ", kBytes, " bytes, not ", bytes.size()));
  }
  GpuId id;
  std::copy(bytes.begin(), bytes.end(), id.bytes_.begin());
  return id;
}

absl::StatusOr<GpuId> GpuId::FromText(absl::string_view text) {
  absl::string_view digits = text;
  if (!absl::ConsumePrefix(&digits, "GPU-")) {
    absl::ConsumePrefix(&digits, "MIG-");
  }
  if (!IsUuid(digits)) {
    return Error(Reason::kInvalidArgument, absl::StrCat("\"", text, "\" is not the UUID of a GPU"),
                 "write it as nvidia-smi -L prints it");
  }
  std::string hex;
  std::copy_if(digits.begin(), digits.end(), std::back_inserter(hex),
               [](char c) { return c != '-'; });
  return FromBytes(absl::HexStringToBytes(hex));
}

std::string GpuId::ToText() const {
  std::string text = absl::BytesToHexString(ToBytes());
  for (const size_t dash : kDashes) {
    text.insert(dash, "-");
  }
  return absl::StrCat("GPU-", text);
}

}  // namespace weightd
