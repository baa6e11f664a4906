#include "daemon/config_values.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/status.h"
#include "daemon/service/access.h"

namespace weightd {

absl::Status CheckOneOf(const std::string& value, absl::Span<const absl::string_view> allowed,
                        absl::string_view path, const FieldLines& lines) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(path, absl::StrCat("must be one of ", absl::StrJoin(allowed, ", ")));
}

absl::Status CheckPatterns(const google::protobuf::RepeatedPtrField<std::string>& patterns,
                           absl::string_view path, const FieldLines& lines) {
  for (int i = 0; i < patterns.size(); ++i) {
    const absl::Status status = service::Pattern::Parse(patterns[i]).status();
    if (!status.ok()) {
      return lines.ErrorAt(absl::StrCat(path, "[", i, "]"), status.message(), HintOf(status));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAbsolutePath(absl::string_view path, absl::string_view field,
                               const FieldLines& lines) {
  const std::vector<absl::string_view> segments = absl::StrSplit(path, '/');
  const bool climbs = std::find(segments.begin(), segments.end(), "..") != segments.end();
  if (!path.empty() && path[0] == '/' && !climbs) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(field, "not an absolute path without ..", "write it from / on");
}

absl::Status CheckListenAddress(absl::string_view value, absl::string_view path,
                                const FieldLines& lines) {
  const size_t colon = std::min(value.rfind(':'), value.size());
  std::string host(value.substr(0, colon));
  const absl::string_view port_text = value.substr(std::min(colon + 1, value.size()));
  uint32_t port = 0;
  const bool is_port = std::all_of(port_text.begin(), port_text.end(), absl::ascii_isdigit) &&
                       absl::SimpleAtoi(port_text, &port) && port >= 1 && port <= 65535;
  in6_addr address;
  const bool is_ipv6 = host.size() > 2 && host.front() == '[' && host.back() == ']' &&
                       inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &address) == 1;
  if (is_port && (is_ipv6 || inet_pton(AF_INET, host.c_str(), &address) == 1)) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(path, "not an IP address and a port",
                       "write address:port, such as 127.0.0.1:9464, 0.0.0.0:9464 or [::]:9464");
}

}  // namespace weightd
