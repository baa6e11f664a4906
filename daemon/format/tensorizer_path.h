#ifndef WEIGHTD_DAEMON_FORMAT_TENSORIZER_PATH_H_
#define WEIGHTD_DAEMON_FORMAT_TENSORIZER_PATH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/format/header.h"

// What names mean in tensorizer files. A plain name is the key of a mapping. A structured one, 0x1E
// and a JSON array, is a way through nested mappings (by strings) and sequences (by integers).

namespace weightd::format {

// A tensor's place in the nest, in a form that sorts what lies together side by side: for each step
// 'i' and decimal digits or 's' and the key, then a NUL; a NUL of a key is followed by 0xFF.
struct TensorPath {
  std::string steps;
  // Where its name lies in the file.
  uint64_t offset = 0;
};

// `name` must be UTF-8 and no empty path; structured ones are for state dicts only.
absl::StatusOr<TensorPath> ParseTensorPath(absl::string_view file_name, absl::string_view name,
                                           TensorKind kind, uint64_t offset);

// Whether all paths fit into one nest: none stands twice or leads through another, and what lies
// side by side has keys or positions, not both. Sorts them.
absl::Status CheckTensorPaths(absl::string_view file_name, std::vector<TensorPath>& paths);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_TENSORIZER_PATH_H_
