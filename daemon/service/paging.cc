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
constexpr size_t kEnoughBytes = 1 << 20;

std::string TokenFor(absl::string_view list, size_t begin) {
  return absl::StrCat(list, ":", begin);
}

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
  return Page{begin, end, end < entries ? TokenFor(list, end) : std::string()};
}

void AddEntries(Page& page, absl::string_view list, absl::FunctionRef<size_t(size_t)> add) {
  size_t bytes = 0;
  for (size_t i = page.begin; i < page.end; ++i) {
    bytes += add(i);
    if (bytes > kEnoughBytes && i + 1 < page.end) {
      page.end = i + 1;
      page.next_token = TokenFor(list, page.end);
    }
  }
}

}  // namespace weightd::service
