#include "client/cpp/connection.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/rpc.h"
#include "common/status.h"

namespace weightd::client {
namespace {

constexpr char kSessionMetadata[] = "weightd-session";
constexpr absl::Duration kReleasePatience = absl::Seconds(1);

LoadProgress ToProgress(const v1::LoadProgress& progress) {
  return {static_cast<LoadPhase>(progress.phase()), progress.bytes_done(), progress.bytes_total()};
}

}  // namespace

Client::Connection::Connection(std::unique_ptr<Session> session,
                               std::unique_ptr<v1::Weights::Stub> stub, std::string socket_path)
    : session_(std::move(session)), stub_(std::move(stub)), socket_path_(std::move(socket_path)) {}

Client::Connection::~Connection() {
  if (!session_->IsOurs()) {
    // Lost on purpose.
    [[maybe_unused]] const v1::Weights::Stub* const lost = stub_.release();
  }
}

absl::StatusOr<std::shared_ptr<Client::Connection>> Client::Connection::Open(
    const std::string& socket_dir, absl::Time deadline) {
  ASSIGN_OR_RETURN(auto session, Session::Open(socket_dir, deadline));
  std::string path = absl::StrCat(socket_dir, "/weightd.sock");
  ASSIGN_OR_RETURN(auto channel, OpenChannel(path, deadline));
  return std::shared_ptr<Connection>(
      new Connection(std::move(session), v1::Weights::NewStub(channel), std::move(path)));
}

absl::StatusOr<v1::Grant> Client::Connection::Acquire(
    const v1::AcquireRequest& request, absl::Time deadline,
    const std::function<void(const LoadProgress&)>& progress, Cancellation* cancellation) {
  ReleaseWhatIsLeft();
  Cancellation never;
  grpc::ClientContext context;
  const auto cancelled = (cancellation != nullptr ? cancellation : &never)->OnCancel([&context] {
    context.TryCancel();
  });
  SetDeadline(context, deadline);
  context.AddMetadata(kSessionMetadata, session_->token());
  const auto stream = stub_->Acquire(&context, request);
  v1::AcquireResponse response;
  v1::Grant grant;
  while (stream->Read(&response)) {
    if (response.has_grant()) {
      grant = std::move(*response.mutable_grant());
    } else if (response.has_progress() && progress) {
      progress(ToProgress(response.progress()));
    }
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) {
    if (grant.lease_id() != 0) {
      ReleaseLater(LeaseId(grant.lease_id()));
    }
    return FromRpc(status, context, socket_path_);
  }
  if (grant.lease_id() == 0) {
    return Error(Reason::kInternal, "the daemon ended an Acquire without a grant");
  }
  return grant;
}

void Client::Connection::Release(LeaseId lease) {
  if (!session_->IsOurs()) {
    return;
  }
  if (!ReleaseWhatIsLeft() || !TryRelease(lease)) {
    ReleaseLater(lease);
  }
}

void Client::Connection::ReleaseLater(LeaseId lease) {
  const absl::MutexLock lock(&mutex_);
  unreleased_.push_back(lease);
}

bool Client::Connection::TryRelease(LeaseId lease) {
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + kReleasePatience);
  context.AddMetadata(kSessionMetadata, session_->token());
  v1::ReleaseRequest request;
  request.set_lease_id(lease.value());
  v1::ReleaseResponse response;
  switch (stub_->Release(&context, request, &response).error_code()) {
    case grpc::StatusCode::OK:
    case grpc::StatusCode::NOT_FOUND:        // it ended before
    case grpc::StatusCode::UNAUTHENTICATED:  // the session did, and all its leases
      return true;
    default:
      return false;
  }
}

bool Client::Connection::ReleaseWhatIsLeft() {
  std::vector<LeaseId> left;
  {
    const absl::MutexLock lock(&mutex_);
    left.swap(unreleased_);
  }
  for (size_t i = 0; i < left.size(); ++i) {
    if (!TryRelease(left[i])) {
      const absl::MutexLock lock(&mutex_);
      unreleased_.insert(unreleased_.end(), left.begin() + static_cast<ptrdiff_t>(i), left.end());
      return false;
    }
  }
  return true;
}

}  // namespace weightd::client
