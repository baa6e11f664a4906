#include "daemon/service/tcp_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd::service {
namespace {

constexpr int kBacklog = 128;

absl::Status CanNotListen(int error_number, absl::string_view where) {
  const absl::string_view hint =
      error_number == EADDRINUSE ? "another process listens there (`ss -ltnp` says which): end it, "
                                   "or configure another port"
      : error_number == EADDRNOTAVAIL ? "that address is none of this node's: configure one that is"
      : error_number == EACCES        ? "ports below 1024 take the right CAP_NET_BIND_SERVICE"
                                      : "";
  const absl::Status why = ErrnoError(error_number, absl::StrCat("listen on ", where));
  return hint.empty() ? why : Error(Reason::kInvalidArgument, why.message(), hint);
}

std::string ToText(const sockaddr_storage& storage) {
  char host[INET6_ADDRSTRLEN] = {};
  if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
    return absl::StrCat(host, ":", ntohs(v4.sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
    return absl::StrCat("[", host, "]:", ntohs(v6.sin6_port));
  }
  return "";
}

}  // namespace

absl::StatusOr<TcpAddress> ParseTcpAddress(absl::string_view text) {
  absl::Status malformed =
      Error(Reason::kInvalidArgument, "not an address of TCP",
            "write address:port, such as 10.0.0.7:7443, or [::]:7443 for all of this machine's");
  const size_t colon = text.rfind(':');
  const absl::string_view port_text =
      colon == absl::string_view::npos ? "" : text.substr(colon + 1);
  uint32_t port = 0;
  if (port_text.empty() || !absl::c_all_of(port_text, absl::ascii_isdigit) ||
      !absl::SimpleAtoi(port_text, &port) || port > UINT16_MAX) {
    return malformed;
  }
  absl::string_view host = text.substr(0, colon);
  const bool brackets = absl::ConsumePrefix(&host, "[") && absl::ConsumeSuffix(&host, "]");
  TcpAddress address;
  if (brackets) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(static_cast<uint16_t>(port));
    address.size = sizeof(v6);
    return inet_pton(AF_INET6, std::string(host).c_str(), &v6.sin6_addr) == 1
               ? absl::StatusOr<TcpAddress>(address)
               : malformed;
  }
  auto& v4 = reinterpret_cast<sockaddr_in&>(address.storage);
  v4.sin_family = AF_INET;
  v4.sin_port = htons(static_cast<uint16_t>(port));
  address.size = sizeof(v4);
  return inet_pton(AF_INET, std::string(host).c_str(), &v4.sin_addr) == 1
             ? absl::StatusOr<TcpAddress>(address)
             : malformed;
}

absl::StatusOr<Fd> ListenOnTcp(const TcpAddress& address) {
  Fd listening(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  const int off = 0;
  if (!listening.valid() ||
      setsockopt(listening.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      (address.storage.ss_family == AF_INET6 &&
       setsockopt(listening.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0) ||
      bind(listening.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) !=
          0 ||
      listen(listening.get(), kBacklog) != 0) {
    return CanNotListen(errno, ToText(address.storage));
  }
  return listening;
}

std::string PeerAddress(int socket) {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(storage);
  return getpeername(socket, reinterpret_cast<sockaddr*>(&storage), &size) == 0 ? ToText(storage)
                                                                                : "";
}

std::string OwnAddress(int socket) {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(storage);
  return getsockname(socket, reinterpret_cast<sockaddr*>(&storage), &size) == 0 ? ToText(storage)
                                                                                : "";
}

}  // namespace weightd::service
