#include "daemon/admin_tcp.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/logging.h"
#include "daemon/service/access.h"
#include "daemon/service/tcp_address.h"
#include "daemon/service/tls_certificates.h"
#include "daemon/service/tls_identity.h"

namespace weightd {
namespace {

using Identity = std::shared_ptr<const service::TlsIdentity>;

constexpr absl::Duration kWarnBefore = absl::Hours(7 * 24);

std::string ExpiryOf(const service::TlsIdentity& identity) {
  return absl::FormatTime(absl::RFC3339_sec, identity.expires(), absl::UTCTimeZone());
}

void LogChange(const absl::StatusOr<Identity>& identity) {
  if (identity.ok()) {
    Log(LogLevel::kInfo, "admin.certificate_replaced",
        {{"subject", (*identity)->subject()}, {"expires", ExpiryOf(**identity)}});
  } else {
    Log(LogLevel::kError, "admin.certificate_refused", {{"error", identity.status().message()}});
  }
}

void LogValidity(const service::TlsIdentity& identity) {
  const absl::Time now = absl::Now();
  if (const absl::Status valid = identity.ValidAt(now); !valid.ok()) {
    Log(LogLevel::kError, "admin.certificate_invalid",
        {{"subject", identity.subject()}, {"error", valid.message()}});
  } else if (identity.expires() - now < kWarnBefore) {
    Log(LogLevel::kWarning, "admin.certificate_expires",
        {{"subject", identity.subject()}, {"expires", ExpiryOf(identity)}});
  }
}

absl::StatusOr<service::TlsCertificates> OpenCertificates(
    const v1::AdminTcpConfig& config, service::TlsCertificates::Observer observer) {
  std::vector<service::Pattern> allowed;
  for (const std::string& name : config.allowed_names()) {
    ASSIGN_OR_RETURN(service::Pattern pattern, service::Pattern::Parse(name));
    allowed.push_back(std::move(pattern));
  }
  auto certificates = service::TlsCertificates::Open(
      {config.certificate_file(), config.key_file(), config.client_ca_file()}, std::move(allowed),
      std::move(observer));
  RETURN_IF_ERROR(Annotate(certificates.status(), "admin.tcp"));
  return certificates;
}

}  // namespace

absl::Status CheckAdminTcpFiles(const v1::AdminTcpConfig& config) {
  if (config.address().empty()) {
    return absl::OkStatus();
  }
  absl::StatusOr<service::TlsCertificates> certificates =
      OpenCertificates(config, {.changed = [](const absl::StatusOr<Identity>&) {},
                                .in_use = [](const service::TlsIdentity&) {}});
  RETURN_IF_ERROR(certificates.status());
  return Annotate(certificates->Current()->ValidAt(absl::Now()), "admin.tcp");
}

absl::StatusOr<std::unique_ptr<service::TlsListener>> StartAdminTcp(
    const v1::AdminTcpConfig& config, service::GrpcListener* admin, service::Reception reception,
    CertificateExpiry* expiry) {
  if (config.address().empty()) {
    return nullptr;
  }
  const auto in_use = [expiry](const service::TlsIdentity& identity) {
    *expiry = absl::ToUnixSeconds(identity.expires());
    LogValidity(identity);
  };
  ASSIGN_OR_RETURN(service::TlsCertificates certificates,
                   OpenCertificates(config, {.changed = LogChange, .in_use = in_use}));
  ASSIGN_OR_RETURN(const service::TcpAddress address, service::ParseTcpAddress(config.address()));
  absl::StatusOr<Fd> listening = service::ListenOnTcp(address);
  RETURN_IF_ERROR(Annotate(listening.status(), "admin.tcp"));
  return service::TlsListener::Start(
      *std::move(listening), std::move(certificates), {}, std::move(reception),
      [admin](Fd connection) { admin->Serve(std::move(connection)); });
}

}  // namespace weightd
