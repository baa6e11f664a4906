#ifndef WEIGHTD_CLIENT_CPP_RPC_H_
#define WEIGHTD_CLIENT_CPP_RPC_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "weightd/v1/error.pb.h"

// How the clients speak gRPC with the daemon: the channel, and the one place where its errors
// become absl::Status.

namespace weightd::client {

// A connection of its own to a UNIX socket; UNAVAILABLE if nobody serves it.
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& socket_path,
                                                           absl::Time deadline);

// What is set for every channel to a daemon.
grpc::ChannelArguments ChannelArgumentsOfAll();

// UNAVAILABLE at the first failure to connect `channel`: a daemon that starts later is no reason to
// wait. `where` is a socket's path, or an address.
absl::Status AwaitConnection(grpc::Channel& channel, absl::Time deadline, const std::string& where);

void SetDeadline(grpc::ClientContext& context, absl::Time deadline);

// What the daemon said in a failed RPC, or, if it said nothing, what became of the connection to
// `where`: a socket's path, or an address.
absl::Status FromRpc(const grpc::Status& status, const grpc::ClientContext& context,
                     absl::string_view where);

// What the daemon said in an ErrorDetail.
absl::Status FromDetail(const v1::ErrorDetail& detail);

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_RPC_H_
