#ifndef WEIGHTD_CLIENT_CLI_INSPECT_H_
#define WEIGHTD_CLIENT_CLI_INSPECT_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/format/header.h"
#include "daemon/source/registry.h"

namespace weightd::cli {

struct InspectedTensor {
  format::TensorEntry entry;
  // The weight file in the folder; empty if a single file is inspected.
  std::string file;
};

struct InspectedModel {
  // Ordered by file and offset.
  std::vector<InspectedTensor> tensors;
  // Of several files with the same key, the first file's wins.
  std::map<std::string, std::string> metadata;
};

// "F32", or torch's name ("bits16") of a type that has no other.
absl::string_view TypeNameOf(const format::TensorEntry& entry);

// Reads the headers of a local weight file, or of a folder: one with an index and its shards, or
// with one weight file. Checks all that the daemon checks before a load.
absl::StatusOr<InspectedModel> InspectPath(const std::string& path);

// The same of what `sources` read, whatever a model may be there.
absl::StatusOr<InspectedModel> InspectUri(const source::Registry& sources, const Uri& uri,
                                          Cancellation& cancellation);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_INSPECT_H_
