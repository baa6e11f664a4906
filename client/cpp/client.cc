#include "client/cpp/client.h"

#include <algorithm>
#include <utility>

#include "client/cpp/connection.h"
#include "client/cpp/device_model_state.h"
#include "client/cpp/model_state.h"
#include "client/cpp/socket_dir.h"
#include "common/ids.h"
#include "common/status.h"

namespace weightd::client {
namespace {

// Descriptors come at once from a daemon that is well.
constexpr absl::Duration kClaimPatience = absl::Seconds(10);

absl::Status CheckOurs(const Session& session) {
  return session.IsOurs()
             ? absl::OkStatus()
             : Error(Reason::kSessionInvalid, "this client was connected before a fork()",
                     "connect again in the child");
}

Session::Segment SegmentOf(const v1::AcquireRequest& request) {
  if (!request.has_device()) {
    return Session::Segment::kHost;
  }
  return request.device().legacy() ? Session::Segment::kElsewhere : Session::Segment::kDevice;
}

struct Claimed {
  v1::Grant grant;
  ClaimedHandles handles;
};

// A lease and its descriptors. `request` says where.
absl::StatusOr<Claimed> AcquireAndClaim(Client::Connection& connection, absl::string_view model,
                                        const AttachOptions& options, v1::AcquireRequest request) {
  const absl::Time deadline = absl::Now() + options.timeout;
  request.set_model(std::string(model));
  request.set_resident_only(options.resident_only);
  request.set_revision(options.revision);
  request.mutable_sha256()->insert(options.sha256.begin(), options.sha256.end());
  Claimed claimed;
  ASSIGN_OR_RETURN(claimed.grant, connection.Acquire(request, deadline, options.progress));
  const LeaseId lease(claimed.grant.lease_id());
  auto handles = connection.session().Claim(lease, SegmentOf(request),
                                            std::min(deadline, absl::Now() + kClaimPatience));
  if (!handles.ok()) {
    connection.ReleaseLater(lease);
    return Annotate(handles.status(), model);
  }
  claimed.handles = *std::move(handles);
  return claimed;
}

}  // namespace

absl::StatusOr<Client> Client::Connect(const ConnectOptions& options) {
  ASSIGN_OR_RETURN(auto connection, Connection::Open(ResolveSocketDir(options.socket_dir),
                                                     absl::Now() + options.timeout));
  return Client(std::move(connection));
}

absl::StatusOr<Model> Client::Attach(absl::string_view model, const AttachOptions& options) const {
  RETURN_IF_ERROR(CheckOurs(connection_->session()));
  ASSIGN_OR_RETURN(const Claimed claimed, AcquireAndClaim(*connection_, model, options, {}));
  auto state = Model::State::Map(connection_, claimed.grant, claimed.handles, options.access);
  if (!state.ok()) {
    return Annotate(state.status(), model);
  }
  return Model(*std::move(state));
}

absl::StatusOr<DeviceModel> Client::AttachToDevice(absl::string_view model,
                                                   const DeviceOptions& device,
                                                   const AttachOptions& options) const {
  RETURN_IF_ERROR(CheckOurs(connection_->session()));
  ASSIGN_OR_RETURN(auto context, OpenGpu(device));
  v1::AcquireRequest request;
  *request.mutable_device() = ToRequest(device, context->gpu());
  ASSIGN_OR_RETURN(const Claimed claimed,
                   AcquireAndClaim(*connection_, model, options, std::move(request)));
  auto state = DeviceModel::State::Map(connection_, claimed.grant, claimed.handles,
                                       std::move(context), device);
  if (!state.ok()) {
    return Annotate(state.status(), model);
  }
  return DeviceModel(*std::move(state));
}

const std::string& Client::daemon_version() const {
  return connection_->session().daemon_version();
}

}  // namespace weightd::client
