#ifndef WEIGHTD_CLIENT_CPP_SMALL_FILES_H_
#define WEIGHTD_CLIENT_CPP_SMALL_FILES_H_

#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cpp/session.h"
#include "common/mapping.h"
#include "weightd/v1/tensor_index.pb.h"

namespace weightd::client {

// What lies beside a model's weights, mapped. Nothing that the index says of it is believed. Views
// are valid while this lives.
class SmallFiles {
 public:
  // What was claimed; of a model that has none, empty.
  static absl::StatusOr<SmallFiles> Map(const ClaimedHandles& handles);

  SmallFiles() = default;

  absl::StatusOr<std::map<std::string, absl::string_view>> All(const v1::TensorIndex& index) const;
  // kFileNotFound if there is none of that name, or the daemon doesn't keep it.
  absl::StatusOr<absl::string_view> Find(const v1::TensorIndex& index,
                                         absl::string_view name) const;

 private:
  explicit SmallFiles(Mapping bytes) : bytes_(std::move(bytes)) {}

  absl::StatusOr<absl::string_view> View(const v1::SmallFile& file) const;

  Mapping bytes_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_SMALL_FILES_H_
