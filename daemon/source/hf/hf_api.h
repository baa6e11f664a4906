#ifndef WEIGHTD_DAEMON_SOURCE_HF_HF_API_H_
#define WEIGHTD_DAEMON_SOURCE_HF_HF_API_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// What a hub's API answers. Pure.

namespace weightd::source {

inline constexpr size_t kMaxHfAnswerBytes = 16 << 20;

// A repository at one commit.
struct HfRepository {
  std::string commit;
  // Paths of its files, in the hub's order.
  std::vector<std::string> files;
};

// Of GET /api/models/ORGANISATION/NAME/revision/REVISION. kSourceProtocol if it is none.
absl::StatusOr<HfRepository> ParseHfRepository(absl::string_view json);

// Those of `files` that lie directly in `folder` ("" or "a/b/"), as names in it, sorted.
std::vector<std::string> FilesIn(const std::vector<std::string>& files, absl::string_view folder);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HF_HF_API_H_
