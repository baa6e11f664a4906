#ifndef WEIGHTD_DAEMON_ADMIN_TCP_H_
#define WEIGHTD_DAEMON_ADMIN_TCP_H_

#include <memory>

#include "absl/status/statusor.h"
#include "daemon/service/connection_acceptor.h"
#include "daemon/service/grpc_listener.h"
#include "daemon/service/tls_listener.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// Lets operators in over TCP, as a valid config says; null if it doesn't ask for it. Certificates
// that are replaced, or would be but for what is wrong with them, are told in the log. `admin`, and
// what `reception` points to, outlive what is returned.
absl::StatusOr<std::unique_ptr<service::TlsListener>> StartAdminTcp(
    const v1::AdminTcpConfig& config, service::GrpcListener* admin, service::Reception reception);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_ADMIN_TCP_H_
