#ifndef WEIGHTD_CLIENT_CPP_MODEL_STATE_H_
#define WEIGHTD_CLIENT_CPP_MODEL_STATE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cpp/connection.h"
#include "client/cpp/model.h"
#include "client/cpp/sealed_file.h"
#include "client/cpp/tensor_table.h"
#include "common/ids.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::client {

// What the copies of a Model share. Immutable but for the table, which is made at its first use: an
// attach costs the same for ten tensors and for 100,000.
class Model::State {
 public:
  // Maps what was claimed. The lease is released by the destructor, and here if the mapping fails.
  static absl::StatusOr<std::shared_ptr<const State>> Map(
      std::shared_ptr<Client::Connection> connection, const v1::Grant& grant,
      const ClaimedHandles& handles, Access access);
  // Unmaps first: the daemon must not count on memory that is still mapped.
  ~State();
  State(const State&) = delete;

  const std::string& name() const { return name_; }
  const std::string& revision() const { return revision_; }
  const std::vector<FileCheck>& verified() const { return verified_; }
  absl::Span<std::byte> bytes() const { return segment_.mapping.span(); }
  Access access() const { return segment_.access; }
  absl::StatusOr<const TensorTable*> table() const;

 private:
  State(std::shared_ptr<Client::Connection> connection, const v1::Grant& grant);

  const std::shared_ptr<Client::Connection> connection_;
  const LeaseId lease_;
  const std::string name_;
  const std::string revision_;
  const std::vector<FileCheck> verified_;
  SealedMapping segment_;
  Mapping index_;
  mutable absl::once_flag table_once_;
  mutable absl::StatusOr<std::unique_ptr<const TensorTable>> table_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_MODEL_STATE_H_
