#ifndef WEIGHTD_CLIENT_CPP_MODEL_STATE_H_
#define WEIGHTD_CLIENT_CPP_MODEL_STATE_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cpp/granted_model.h"
#include "client/cpp/held_lease.h"
#include "client/cpp/model.h"
#include "client/cpp/model_tensors.h"
#include "client/cpp/sealed_file.h"
#include "client/cpp/small_files.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::client {

// What the copies of a Model share. Immutable.
class Model::State {
 public:
  // Maps what was claimed for `lease`.
  static absl::StatusOr<std::shared_ptr<const State>> Map(std::shared_ptr<HeldLease> lease,
                                                          const v1::Grant& grant,
                                                          const ClaimedHandles& handles,
                                                          Access access);
  State(const State&) = delete;

  const GrantedModel& granted() const { return granted_; }
  absl::Span<std::byte> bytes() const { return segment_.mapping.span(); }
  Access access() const { return segment_.access; }
  const ModelTensors<Tensor>& tensors() const { return *tensors_; }
  const SmallFiles& files() const { return files_; }

 private:
  State(std::shared_ptr<HeldLease> lease, const v1::Grant& grant);

  // First, and so released last: the daemon must not count on memory that is still mapped.
  const std::shared_ptr<HeldLease> lease_;
  const GrantedModel granted_;
  SealedMapping segment_;
  // Set by Map.
  std::optional<ModelTensors<Tensor>> tensors_;
  SmallFiles files_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_MODEL_STATE_H_
