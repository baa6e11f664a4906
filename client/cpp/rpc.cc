#include "client/cpp/rpc.h"

#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "client/cpp/daemon_gone.h"
#include "common/status.h"

namespace weightd::client {
namespace {

// Set by the daemon in the trailing metadata of every failed RPC.
constexpr char kErrorMetadata[] = "weightd-error-bin";
// Pages of tensors with long names, and free-text metadata, may be larger than gRPC's default of 4
// MiB.
constexpr int kMaxMessageBytes = 64 << 20;

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& socket_path,
                                                           absl::Time deadline) {
  if (socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("socket path ", socket_path, " is longer than ",
                              sizeof(sockaddr_un::sun_path) - 1, " bytes"),
                 "use a shorter socket folder, or a symbolic link to it");
  }
  // gRPC would say of all of these that it can't connect.
  if (access(socket_path.c_str(), R_OK | W_OK) != 0) {
    return CannotConnect(errno, socket_path);
  }
  auto channel =
      grpc::CreateCustomChannel(absl::StrCat("unix:", socket_path),
                                grpc::InsecureChannelCredentials(), ChannelArgumentsOfAll());
  RETURN_IF_ERROR(AwaitConnection(*channel, deadline, socket_path));
  return channel;
}

grpc::ChannelArguments ChannelArgumentsOfAll() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // Otherwise channels of one process to one path share a connection, and its back-off after a
  // failure.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

absl::Status AwaitConnection(grpc::Channel& channel, absl::Time deadline,
                             const std::string& where) {
  grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true);
  while (state != GRPC_CHANNEL_READY) {
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      return DaemonGone(absl::StrCat("no daemon serves ", where), where);
    }
    if (!channel.WaitForStateChange(state, absl::ToChronoTime(deadline))) {
      return DaemonGone(absl::StrCat("the daemon at ", where, " does not answer"), where);
    }
    state = channel.GetState(/*try_to_connect=*/true);
  }
  return absl::OkStatus();
}

void SetDeadline(grpc::ClientContext& context, absl::Time deadline) {
  if (deadline != absl::InfiniteFuture()) {
    context.set_deadline(absl::ToChronoTime(deadline));
  }
}

absl::Status FromDetail(const v1::ErrorDetail& detail) {
  const Reason reason = v1::ErrorReason_IsValid(detail.reason())
                            ? static_cast<Reason>(detail.reason())
                            : Reason::kUnspecified;
  return Error(reason, detail.message(), detail.hint());
}

absl::Status FromRpc(const grpc::Status& status, const grpc::ClientContext& context,
                     absl::string_view where) {
  if (status.ok()) {
    return absl::OkStatus();
  }
  const auto& trailer = context.GetServerTrailingMetadata();
  const auto found = trailer.find(kErrorMetadata);
  v1::ErrorDetail detail;
  if (found != trailer.end() &&
      detail.ParseFromArray(found->second.data(), static_cast<int>(found->second.size())) &&
      v1::ErrorReason_IsValid(detail.reason()) && detail.reason() != v1::ERROR_REASON_UNSPECIFIED) {
    if (detail.message().empty()) {
      detail.set_message(status.error_message());
    }
    return FromDetail(detail);
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return DaemonGone(absl::StrCat("the daemon is gone: ", status.error_message()), where);
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return Error(Reason::kDeadline, "the daemon did not answer before the deadline",
                 "allow more time, or see with weightctl status what it does");
  }
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    return Error(Reason::kUnsupported, "the daemon does not know this call",
                 "it is of another version than its client: update the older one");
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace weightd::client
