#include "client/cpp/model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/model_state.h"
#include "common/status.h"

namespace weightd::client {
namespace {

std::vector<FileCheck> ChecksOf(const v1::Verification& verification) {
  std::vector<FileCheck> checks;
  for (const v1::FileCheck& check : verification.files()) {
    checks.push_back({.file = check.file(),
                      .kind = check.kind(),
                      .value = check.value(),
                      .pinned = check.by() == v1::FileCheck::PIN});
  }
  return checks;
}

}  // namespace

Model::State::State(std::shared_ptr<Client::Connection> connection, const v1::Grant& grant)
    : connection_(std::move(connection)),
      lease_(grant.lease_id()),
      name_(grant.model().model()),
      revision_(grant.model().revision()),
      verified_(ChecksOf(grant.verification())) {}

absl::StatusOr<std::shared_ptr<const Model::State>> Model::State::Map(
    std::shared_ptr<Client::Connection> connection, const v1::Grant& grant,
    const ClaimedHandles& handles, Access access) {
  std::shared_ptr<State> state(new State(std::move(connection), grant));
  ASSIGN_OR_RETURN(state->segment_,
                   MapSealed(handles.segment.get(), handles.segment_bytes, access, "the segment"));
  ASSIGN_OR_RETURN(SealedMapping index, MapSealed(handles.index.get(), handles.index_bytes,
                                                  Access::kSharedReadOnly, "the tensor index"));
  state->index_ = std::move(index.mapping);
  return state;
}

Model::State::~State() {
  segment_.mapping.Reset();
  index_.Reset();
  connection_->Release(lease_);
}

absl::StatusOr<const TensorTable*> Model::State::table() const {
  absl::call_once(table_once_, [this] {
    table_ = TensorTable::Parse(index_.span(), bytes(), access() == Access::kPrivateWritable);
  });
  if (!table_.ok()) {
    return Annotate(table_.status(), name_);
  }
  return table_->get();
}

const std::string& Model::name() const { return state_->name(); }

const std::string& Model::revision() const { return state_->revision(); }

const std::vector<FileCheck>& Model::verified() const { return state_->verified(); }

absl::Span<const std::byte> Model::bytes() const { return state_->bytes(); }

Access Model::access() const { return state_->access(); }

absl::StatusOr<Tensor> Model::tensor(absl::string_view name) const {
  ASSIGN_OR_RETURN(const TensorTable* table, state_->table());
  const Tensor* const tensor = table->Find(name);
  if (tensor == nullptr) {
    return Error(Reason::kTensorNotFound,
                 absl::StrCat("model ", state_->name(), " has no tensor \"", name, "\""),
                 "tensors() lists what it has");
  }
  return *tensor;
}

absl::StatusOr<absl::Span<const Tensor>> Model::tensors() const {
  ASSIGN_OR_RETURN(const TensorTable* table, state_->table());
  return table->tensors();
}

absl::StatusOr<std::map<std::string, std::string>> Model::metadata() const {
  ASSIGN_OR_RETURN(const TensorTable* table, state_->table());
  const auto& metadata = table->index().metadata();
  return std::map<std::string, std::string>(metadata.begin(), metadata.end());
}

}  // namespace weightd::client
