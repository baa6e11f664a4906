#ifndef WEIGHTD_COMMON_FD_PASSING_H_
#define WEIGHTD_COMMON_FD_PASSING_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/fd.h"

// Packets with descriptors over a SOCK_SEQPACKET UNIX socket (unix(7), SCM_RIGHTS).

namespace weightd {

// Largest packet of the handle channel.
inline constexpr size_t kMaxPacketBytes = 64 << 10;
// Most descriptors in one packet; the kernel's own limit is 253.
inline constexpr size_t kMaxPacketFds = 16;

struct Packet {
  std::string bytes;
  std::vector<Fd> fds;
};

// Sends one packet without blocking. UNAVAILABLE if the peer doesn't take it now, or is gone.
absl::Status SendPacket(int socket, absl::string_view bytes, absl::Span<const int> fds = {});

// Receives one packet; blocks unless the socket is non-blocking (then UNAVAILABLE if there is
// none). Takes descriptors only if `accept_fds`; others are dropped, see below. An empty `bytes` is
// the peer's end of the connection. A packet larger than kMaxPacketBytes or with more than
// kMaxPacketFds descriptors is INVALID_ARGUMENT.
absl::StatusOr<Packet> ReceivePacket(int socket, bool accept_fds);

// recvmsg(2), whoever else defines a function of that name.
ssize_t ReceiveMessage(int socket, msghdr& message, int flags);

// The same without control data, for peers that nobody trusts. What they send may be the last
// reference to a socket whose close waits as long as they like (SO_LINGER), and without room for
// control data the kernel closes it on this thread: so descriptors are received, and closed on a
// thread that nobody waits for. From Linux 6.16 on SO_PASSRIGHTS keeps them from being sent at all.
ssize_t ReceiveWithoutDescriptors(int socket, msghdr& message, int flags);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_FD_PASSING_H_
