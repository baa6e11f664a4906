#ifndef WEIGHTD_DAEMON_SERVICE_PAGING_H_
#define WEIGHTD_DAEMON_SERVICE_PAGING_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightd::service {

// A piece of a list: the entries [begin, end), and what to ask for next (empty at the end).
struct Page {
  size_t begin = 0;
  size_t end = 0;
  std::string next_token;
};

// `page_size` 0 means 100; at most 1000. `token` is empty or a next_token made for the same `list`,
// which names the list's version (a revision, say; it may be empty): a token for another one is
// INVALID_ARGUMENT.
absl::StatusOr<Page> PageOf(size_t entries, uint32_t page_size, absl::string_view token,
                            absl::string_view list);

// Calls `add` for the entries of `page`, in order; it returns the bytes of what it added. Ends the
// page early, and says so in its token, once more than a mebibyte was added.
void AddEntries(Page& page, absl::string_view list, absl::FunctionRef<size_t(size_t)> add);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_PAGING_H_
