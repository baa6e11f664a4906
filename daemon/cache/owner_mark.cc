#include "daemon/cache/owner_mark.h"

#include <cstddef>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "daemon/source/checksum.h"

namespace weightd::cache {
namespace {

constexpr char kMarked = 'F';
constexpr size_t kMarkDigits = 16;
constexpr size_t kPlaceDigits = 32;

}  // namespace

std::string OwnerMark(absl::string_view socket_dir) {
  const std::string digest =
      absl::BytesToHexString(source::HashOf(source::ChecksumKind::kSha256, socket_dir));
  return absl::StrCat(std::string(1, kMarked),
                      absl::AsciiStrToUpper(digest.substr(0, kMarkDigits - 1)));
}

bool IsOthers(absl::string_view stored_name, absl::string_view mark) {
  // As StoredName: what it is of, its place, and which part.
  const std::vector<absl::string_view> words = absl::StrSplit(stored_name, '.');
  return words.size() == 3 && words[1].size() == kPlaceDigits && words[1][0] == kMarked &&
         !absl::StartsWith(words[1], mark);
}

}  // namespace weightd::cache
