#ifndef WEIGHTD_CLIENT_CPP_MODEL_TENSORS_H_
#define WEIGHTD_CLIENT_CPP_MODEL_TENSORS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/call_once.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cpp/tensor_table.h"
#include "common/mapping.h"
#include "common/status.h"
#include "weightd/v1/tensor_index.pb.h"

namespace weightd::client {

// The tensors of one attached model. The table is made at its first use: an attach costs the same
// for ten tensors and for 100,000. Thread-safe. What it gives is valid while it lives.
template <typename T>
class ModelTensors {
 public:
  // `index` holds one serialized TensorIndex; `memory` outlives this; `model` is for messages.
  ModelTensors(Mapping index, const typename T::Memory& memory, std::string model)
      : index_(std::move(index)), memory_(memory), model_(std::move(model)) {}
  ModelTensors(const ModelTensors&) = delete;

  absl::StatusOr<T> Find(absl::string_view name) const {
    ASSIGN_OR_RETURN(const TensorTable<T>* table, Table());
    const T* const tensor = table->Find(name);
    if (tensor == nullptr) {
      return Error(Reason::kTensorNotFound,
                   absl::StrCat("model ", model_, " has no tensor \"", name, "\""),
                   "tensors() lists what it has");
    }
    return *tensor;
  }

  absl::StatusOr<absl::Span<const T>> All() const {
    ASSIGN_OR_RETURN(const TensorTable<T>* table, Table());
    return table->tensors();
  }

  absl::StatusOr<const v1::TensorIndex*> Index() const {
    ASSIGN_OR_RETURN(const TensorTable<T>* table, Table());
    return &table->index();
  }

  absl::StatusOr<std::map<std::string, std::string>> Metadata() const {
    ASSIGN_OR_RETURN(const v1::TensorIndex* index, Index());
    const auto& metadata = index->metadata();
    return std::map<std::string, std::string>(metadata.begin(), metadata.end());
  }

 private:
  absl::StatusOr<const TensorTable<T>*> Table() const {
    absl::call_once(once_, [this] { table_ = TensorTable<T>::Parse(index_.span(), memory_); });
    if (!table_.ok()) {
      return Annotate(table_.status(), model_);
    }
    return table_->get();
  }

  const Mapping index_;
  const typename T::Memory memory_;
  const std::string model_;
  mutable absl::once_flag once_;
  mutable absl::StatusOr<std::unique_ptr<const TensorTable<T>>> table_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_MODEL_TENSORS_H_
