#ifndef WEIGHTD_DAEMON_SERVICE_TCP_ADDRESS_H_
#define WEIGHTD_DAEMON_SERVICE_TCP_ADDRESS_H_

#include <sys/socket.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/fd.h"

namespace weightd::service {

// Where something listens: "10.0.0.7:7443", "[::]:7443"; no names, which may mean another machine
// tomorrow.
struct TcpAddress {
  sockaddr_storage storage = {};
  socklen_t size = 0;
};
absl::StatusOr<TcpAddress> ParseTcpAddress(absl::string_view text);

// A non-blocking listening socket. "[::]" takes IPv4, too.
absl::StatusOr<Fd> ListenOnTcp(const TcpAddress& address);

// "10.0.0.7:41234" of the other end; empty if it is gone.
std::string PeerAddress(int socket);
// Of our end.
std::string OwnAddress(int socket);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_TCP_ADDRESS_H_
