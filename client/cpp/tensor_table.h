#ifndef WEIGHTD_CLIENT_CPP_TENSOR_TABLE_H_
#define WEIGHTD_CLIENT_CPP_TENSOR_TABLE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cpp/device_tensor.h"
#include "client/cpp/tensor.h"
#include "weightd/v1/tensor_index.pb.h"

namespace weightd::client {

// A TensorIndex as tensors over mapped memory, ordered by name: T is Tensor or DeviceTensor.
// Nothing in the index is believed: every tensor it holds lies inside the segment and is as large
// as it says. Immutable, so thread-safe.
//
// Tied weights, which safetensors' save_model stores once, are there under each of their names, as
// the metadata say: a key that is no stored tensor's name, and whose value is one, is another name
// of it. All other metadata (a key "format", names of nothing, names of other names) mean no
// tensor.
template <typename T>
class TensorTable {
 public:
  // `index` is one serialized TensorIndex, `memory` what the segment is mapped to, which outlives
  // the table. DATA_LOSS (kMalformedModel) if they don't fit together, UNIMPLEMENTED if the index
  // is of a later version.
  static absl::StatusOr<std::unique_ptr<const TensorTable>> Parse(absl::Span<const std::byte> index,
                                                                  const typename T::Memory& memory);

  absl::Span<const T> tensors() const { return tensors_; }
  // A tensor of a module itself, which tensorizer calls ".weight", is also found as "weight". Null
  // if there is no such tensor.
  const T* Find(absl::string_view name) const;
  const v1::TensorIndex& index() const { return index_; }

 private:
  TensorTable() = default;
  void AddAliases();
  const T* Named(absl::string_view name) const;

  // Tensors look into it: names and shapes are not copied.
  v1::TensorIndex index_;
  std::vector<T> tensors_;
};

extern template class TensorTable<Tensor>;
extern template class TensorTable<DeviceTensor>;

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_TENSOR_TABLE_H_
