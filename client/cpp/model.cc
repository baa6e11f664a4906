#include "client/cpp/model.h"

#include <utility>

#include "client/cpp/model_state.h"
#include "common/status.h"

namespace weightd::client {

Model::State::State(std::shared_ptr<HeldLease> lease, const v1::Grant& grant)
    : lease_(std::move(lease)), granted_(grant) {}

absl::StatusOr<std::shared_ptr<const Model::State>> Model::State::Map(
    std::shared_ptr<HeldLease> lease, const v1::Grant& grant, const ClaimedHandles& handles,
    Access access) {
  std::shared_ptr<State> state(new State(std::move(lease), grant));
  ASSIGN_OR_RETURN(state->segment_,
                   MapSealed(handles.segment.get(), handles.segment_bytes, access, "the segment"));
  ASSIGN_OR_RETURN(SealedMapping index, MapSealed(handles.index.get(), handles.index_bytes,
                                                  Access::kSharedReadOnly, "the tensor index"));
  ASSIGN_OR_RETURN(state->files_, SmallFiles::Map(handles));
  const Tensor::Memory memory{state->bytes(), state->access() == Access::kPrivateWritable};
  state->tensors_.emplace(std::move(index.mapping), memory, state->granted_.name);
  return state;
}

const std::string& Model::name() const { return state_->granted().name; }

const std::string& Model::revision() const { return state_->granted().revision; }

const std::vector<FileCheck>& Model::verified() const { return state_->granted().verified; }

absl::Span<const std::byte> Model::bytes() const { return state_->bytes(); }

Access Model::access() const { return state_->access(); }

absl::StatusOr<Tensor> Model::tensor(absl::string_view name) const {
  return state_->tensors().Find(name);
}

absl::StatusOr<absl::Span<const Tensor>> Model::tensors() const { return state_->tensors().All(); }

absl::StatusOr<std::map<std::string, std::string>> Model::metadata() const {
  return state_->tensors().Metadata();
}

absl::StatusOr<std::map<std::string, absl::string_view>> Model::files() const {
  ASSIGN_OR_RETURN(const v1::TensorIndex* index, state_->tensors().Index());
  return state_->files().All(*index);
}

absl::StatusOr<absl::string_view> Model::file(absl::string_view name) const {
  ASSIGN_OR_RETURN(const v1::TensorIndex* index, state_->tensors().Index());
  return state_->files().Find(*index, name);
}

}  // namespace weightd::client
