#include "daemon/service/paging.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd::service {
namespace {

constexpr size_t kDefaultPage = 100;
constexpr size_t kLargestPage = 1000;

}  // namespace

absl::StatusOr<Page> PageOf(size_t entries, uint32_t page_size, absl::string_view token,
                            absl::string_view list) {
  const std::string prefix = absl::StrCat(list, ":");
  const size_t size = page_size == 0 ? kDefaultPage : std::min<size_t>(page_size, kLargestPage);
  size_t begin = 0;
  if (!token.empty() &&
      (!absl::ConsumePrefix(&token, prefix) || !absl::SimpleAtoi(token, &begin))) {
    return Error(Reason::kInvalidArgument, "page_token is not one of this list",
                 "begin again with an empty page_token");
  }
  // Entries may have gone since the token was made.
  begin = std::min(begin, entries);
  const size_t end = begin + std::min(size, entries - begin);
  return Page{begin, end, end < entries ? absl::StrCat(prefix, end) : std::string()};
}

}  // namespace weightd::service
