#ifndef WEIGHTD_DAEMON_SERVICE_PAGING_H_
#define WEIGHTD_DAEMON_SERVICE_PAGING_H_

#include <cstdint>
#include <string>

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

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_PAGING_H_
