#include "daemon/cache/owner_mark.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/cache/stored_name.h"
#include "daemon/source/checksum.h"

namespace weightd::cache {
namespace {

constexpr char kMarked = 'F';
constexpr size_t kMarkDigits = 16;

}  // namespace

std::string OwnerMark(absl::string_view socket_dir) {
  const std::string digest =
      absl::BytesToHexString(source::HashOf(source::ChecksumKind::kSha256, socket_dir));
  return absl::StrCat(std::string(1, kMarked),
                      absl::AsciiStrToUpper(digest.substr(0, kMarkDigits - 1)));
}

bool IsOthers(absl::string_view stored_name, absl::Span<const std::string> marks) {
  const std::optional<NameWords> words = NameWords::In(stored_name);
  return words.has_value() && words->place[0] == kMarked &&
         std::none_of(marks.begin(), marks.end(), [&](const std::string& mark) {
           return absl::StartsWith(words->place, mark);
         });
}

}  // namespace weightd::cache
