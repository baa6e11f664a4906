#ifndef WEIGHTD_DAEMON_ADMIN_TCP_H_
#define WEIGHTD_DAEMON_ADMIN_TCP_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/service/connection_acceptor.h"
#include "daemon/service/grpc_listener.h"
#include "daemon/service/tls_listener.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// When a certificate expires, in seconds since 1970; 0 without one.
using CertificateExpiry = std::atomic<int64_t>;

// Lets operators in over TCP, as a valid config says; null if it doesn't ask for it. Certificates
// that are replaced, or would be but for what is wrong with them, or that nobody believes, are told
// in the log, and `expiry` is when the one in use expires. It outlives what is returned, and so do
// `admin` and what `reception` points to.
absl::StatusOr<std::unique_ptr<service::TlsListener>> StartAdminTcp(
    const v1::AdminTcpConfig& config, service::GrpcListener* admin, service::Reception reception,
    CertificateExpiry* expiry);

// Whether the files of a valid config are there and belong together, and the certificate is valid
// now. Good if it asks for no administration over TCP.
absl::Status CheckAdminTcpFiles(const v1::AdminTcpConfig& config);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_ADMIN_TCP_H_
