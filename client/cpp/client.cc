#include "client/cpp/client.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "client/cpp/device_model_state.h"
#include "client/cpp/held_lease.h"
#include "client/cpp/link.h"
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
  std::shared_ptr<Client::Connection> connection;
  v1::AcquireRequest asked;
  v1::Grant grant;
  ClaimedHandles handles;
};

// A lease and its descriptors, of one daemon.
absl::StatusOr<Claimed> AcquireAndClaim(std::shared_ptr<Client::Connection> connection,
                                        const v1::AcquireRequest& request, absl::Time deadline,
                                        const std::function<void(const LoadProgress&)>& progress) {
  Claimed claimed;
  ASSIGN_OR_RETURN(claimed.grant, connection->Acquire(request, deadline, progress));
  const LeaseId lease(claimed.grant.lease_id());
  auto handles = connection->session().Claim(lease, SegmentOf(request),
                                             std::min(deadline, absl::Now() + kClaimPatience));
  if (!handles.ok()) {
    connection->ReleaseLater(lease);
    return Annotate(handles.status(), request.model());
  }
  claimed.handles = *std::move(handles);
  claimed.connection = std::move(connection);
  claimed.asked = request;
  return claimed;
}

// How long the daemon may be away.
absl::Duration PatienceOf(const AttachOptions& options) {
  return options.timeout == AttachOptions().timeout ? kRestartPatience : absl::InfiniteDuration();
}

// The same of whichever daemon runs. `request` says where.
absl::StatusOr<Claimed> AcquireAndClaim(Client::Link& link, absl::string_view model,
                                        const AttachOptions& options, v1::AcquireRequest request,
                                        absl::Time deadline) {
  request.set_model(std::string(model));
  request.set_resident_only(options.resident_only);
  request.set_revision(options.revision);
  request.mutable_sha256()->insert(options.sha256.begin(), options.sha256.end());
  Claimed claimed;
  bool loads = false;
  const auto progress = [&](const LoadProgress& told) {
    loads = true;
    if (options.progress) {
      options.progress(told);
    }
  };
  RETURN_IF_ERROR(link.Patiently(
      deadline, PatienceOf(options), loads,
      [&](const std::shared_ptr<Client::Connection>& connection) -> absl::Status {
        absl::StatusOr<Claimed> attempt = AcquireAndClaim(connection, request, deadline, progress);
        if (ReasonOf(attempt.status()) == Reason::kLeaseUnknown) {
          // An operator's eviction took it before it was claimed.
          attempt = AcquireAndClaim(connection, request, deadline, progress);
        }
        ASSIGN_OR_RETURN(claimed, std::move(attempt));
        return absl::OkStatus();
      }));
  return claimed;
}

}  // namespace

absl::StatusOr<Client> Client::Connect(const ConnectOptions& options) {
  ASSIGN_OR_RETURN(auto link,
                   Link::Open(ResolveSocketDir(options.socket_dir), absl::Now() + options.timeout));
  return Client(std::move(link));
}

absl::StatusOr<Model> Client::Attach(absl::string_view model, const AttachOptions& options) const {
  RETURN_IF_ERROR(CheckOurs(link_->connection()->session()));
  const absl::Time deadline = absl::Now() + options.timeout;
  ASSIGN_OR_RETURN(const Claimed claimed, AcquireAndClaim(*link_, model, options, {}, deadline));
  auto lease = std::make_shared<HeldLease>(claimed.connection, claimed.asked, claimed.grant,
                                           claimed.handles.segment);
  auto state = Model::State::Map(lease, claimed.grant, claimed.handles, options.access);
  if (!state.ok()) {
    return Annotate(state.status(), model);
  }
  link_->Remember(lease);
  link_->RenewLeases(deadline);
  return Model(*std::move(state));
}

absl::StatusOr<DeviceModel> Client::AttachToDevice(absl::string_view model,
                                                   const DeviceOptions& device,
                                                   const AttachOptions& options) const {
  RETURN_IF_ERROR(CheckOurs(link_->connection()->session()));
  ASSIGN_OR_RETURN(auto context, OpenGpu(device));
  const absl::Time deadline = absl::Now() + options.timeout;
  v1::AcquireRequest request;
  *request.mutable_device() = ToRequest(device, context->gpu());
  ASSIGN_OR_RETURN(const Claimed claimed,
                   AcquireAndClaim(*link_, model, options, std::move(request), deadline));
  auto lease = std::make_shared<HeldLease>(claimed.connection, claimed.asked, claimed.grant,
                                           claimed.handles.segment);
  auto state =
      DeviceModel::State::Map(lease, claimed.grant, claimed.handles, std::move(context), device);
  if (!state.ok()) {
    return Annotate(state.status(), model);
  }
  // Other memory is nobody's after the daemon, or one's own.
  if (device.mode == DeviceMode::kShared && !device.legacy) {
    link_->Remember(lease);
  }
  link_->RenewLeases(deadline);
  return DeviceModel(*std::move(state));
}

std::string Client::daemon_version() const {
  return link_->connection()->session().daemon_version();
}

}  // namespace weightd::client
