#include "client/cpp/client.h"

#include <algorithm>
#include <utility>

#include "client/cpp/connection.h"
#include "client/cpp/model_state.h"
#include "client/cpp/socket_dir.h"
#include "common/ids.h"
#include "common/status.h"

namespace weightd::client {
namespace {

// Descriptors come at once from a daemon that is well.
constexpr absl::Duration kClaimPatience = absl::Seconds(10);

}  // namespace

absl::StatusOr<Client> Client::Connect(const ConnectOptions& options) {
  ASSIGN_OR_RETURN(auto connection, Connection::Open(ResolveSocketDir(options.socket_dir),
                                                     absl::Now() + options.timeout));
  return Client(std::move(connection));
}

absl::StatusOr<Model> Client::Attach(absl::string_view model, const AttachOptions& options) const {
  if (!connection_->session().IsOurs()) {
    return Error(Reason::kSessionInvalid, "this client was connected before a fork()",
                 "connect again in the child");
  }
  const absl::Time deadline = absl::Now() + options.timeout;
  v1::AcquireRequest request;
  request.set_model(std::string(model));
  request.set_resident_only(options.resident_only);
  request.set_revision(options.revision);
  request.mutable_sha256()->insert(options.sha256.begin(), options.sha256.end());
  ASSIGN_OR_RETURN(const v1::Grant grant,
                   connection_->Acquire(request, deadline, options.progress));
  const LeaseId lease(grant.lease_id());
  const auto handles =
      connection_->session().Claim(lease, std::min(deadline, absl::Now() + kClaimPatience));
  if (!handles.ok()) {
    connection_->ReleaseLater(lease);
    return Annotate(handles.status(), model);
  }
  auto state = Model::State::Map(connection_, grant, *handles, options.access);
  if (!state.ok()) {
    return Annotate(state.status(), model);
  }
  return Model(*std::move(state));
}

const std::string& Client::daemon_version() const {
  return connection_->session().daemon_version();
}

}  // namespace weightd::client
