#ifndef WEIGHTD_CLIENT_C_MODEL_TABLE_H_
#define WEIGHTD_CLIENT_C_MODEL_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/c/include/weightd.h"
#include "client/cpp/client.h"
#include "common/cuda_types.h"

namespace weightd::c {

// In host memory or in a GPU's.
using AnyModel = std::variant<client::Model, client::DeviceModel>;

// A device pointer as C has it. A number that no pointer was made from: nothing is there to
// optimise.
inline void* AsPointer(cuda::CUdeviceptr address) {
  return reinterpret_cast<void*>(uintptr_t{address});  // NOLINT(performance-no-int-to-ptr)
}

// The tensors, the metadata and the small files of a model as C sees them. Immutable. What it gives
// lives as long as it and the model do.
class ModelTable {
 public:
  // An error is that of an index which doesn't fit the model.
  static absl::StatusOr<std::unique_ptr<const ModelTable>> Make(const AnyModel& model);
  ModelTable(const ModelTable&) = delete;

  // Ordered by name.
  const std::vector<weightd_tensor>& tensors() const { return tensors_; }
  // Keys and values, ordered by key.
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }
  // What lies beside the weights, ordered by name. An error if the index lies about it, which
  // leaves the tensors as they are.
  const absl::StatusOr<std::vector<weightd_file>>& files() const { return files_; }
  // The number of the tensor that the model stores under this very name.
  std::optional<size_t> Find(absl::string_view name) const;

 private:
  ModelTable() = default;

  absl::StatusOr<std::vector<weightd_file>> FilesOf(const AnyModel& model);
  template <typename T>
  void Add(const T& tensor, void* data);
  // A copy that ends with a NUL.
  const char* Keep(absl::string_view text);

  std::deque<std::string> strings_;
  std::map<std::string_view, size_t> numbers_;
  std::vector<weightd_tensor> tensors_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  absl::StatusOr<std::vector<weightd_file>> files_;
};

}  // namespace weightd::c

#endif  // WEIGHTD_CLIENT_C_MODEL_TABLE_H_
