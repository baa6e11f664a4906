#ifndef WEIGHTD_CLIENT_CPP_TLS_CHANNEL_H_
#define WEIGHTD_CLIENT_CPP_TLS_CHANNEL_H_

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cpp/remote_address.h"

namespace weightd::client {

// A connection to a daemon over the network, with certificates on both sides. An error says what is
// wrong: the address (kDaemonUnreachable), a file (kInvalidArgument), the daemon's certificate, or
// ours in the daemon's eyes (kNotAllowed).
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenTlsChannel(const RemoteAddress& remote,
                                                              absl::Time deadline);

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_TLS_CHANNEL_H_
