#include "daemon/admin_tcp.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
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

void LogCertificates(const absl::StatusOr<std::shared_ptr<const service::TlsIdentity>>& identity) {
  if (identity.ok()) {
    Log(LogLevel::kInfo, "admin.certificate_replaced",
        {{"subject", (*identity)->subject()},
         {"expires",
          absl::FormatTime(absl::RFC3339_sec, (*identity)->expires(), absl::UTCTimeZone())}});
  } else {
    Log(LogLevel::kError, "admin.certificate_refused", {{"error", identity.status().message()}});
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<service::TlsListener>> StartAdminTcp(
    const v1::AdminTcpConfig& config, service::GrpcListener* admin, service::Reception reception) {
  if (config.address().empty()) {
    return nullptr;
  }
  std::vector<service::Pattern> allowed;
  for (const std::string& name : config.allowed_names()) {
    ASSIGN_OR_RETURN(service::Pattern pattern, service::Pattern::Parse(name));
    allowed.push_back(std::move(pattern));
  }
  absl::StatusOr<service::TlsCertificates> certificates = service::TlsCertificates::Open(
      {config.certificate_file(), config.key_file(), config.client_ca_file()}, std::move(allowed),
      LogCertificates);
  RETURN_IF_ERROR(Annotate(certificates.status(), "admin.tcp"));
  ASSIGN_OR_RETURN(const service::TcpAddress address, service::ParseTcpAddress(config.address()));
  absl::StatusOr<Fd> listening = service::ListenOnTcp(address);
  RETURN_IF_ERROR(Annotate(listening.status(), "admin.tcp"));
  return service::TlsListener::Start(
      *std::move(listening), *std::move(certificates), {}, std::move(reception),
      [admin](Fd connection) { admin->Serve(std::move(connection)); });
}

}  // namespace weightd
