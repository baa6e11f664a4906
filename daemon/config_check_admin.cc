#include "daemon/config_check_admin.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status.h"
#include "daemon/config_values.h"

namespace weightd {

absl::Status CheckAdmin(const v1::AdminConfig& admin, const FieldLines& lines) {
  if (!admin.has_tcp()) {
    return absl::OkStatus();
  }
  const v1::AdminTcpConfig& tcp = admin.tcp();
  if (tcp.address().empty()) {
    return lines.ErrorAt("admin.tcp", "has no address",
                         "write where to listen under address, such as 10.0.0.7:7443, or leave "
                         "admin.tcp out");
  }
  RETURN_IF_ERROR(CheckListenAddress(tcp.address(), "admin.tcp.address", lines));
  for (const auto& [field, file] :
       {std::pair("certificate_file", tcp.certificate_file()),
        std::pair("key_file", tcp.key_file()), std::pair("client_ca_file", tcp.client_ca_file())}) {
    const std::string path = absl::StrCat("admin.tcp.", field);
    if (file.empty()) {
      return lines.ErrorAt(path, "missing",
                           "administration over TCP takes certificates on both sides: "
                           "certificate_file, key_file and client_ca_file");
    }
    RETURN_IF_ERROR(CheckAbsolutePath(file, path, lines));
  }
  return CheckPatterns(tcp.allowed_names(), "admin.tcp.allowed_names", lines);
}

}  // namespace weightd
