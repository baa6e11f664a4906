#ifndef WEIGHTD_COMMON_FD_PASSING_H_
#define WEIGHTD_COMMON_FD_PASSING_H_

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
// none). Takes descriptors only if `accept_fds`; others are closed at once. An empty `bytes` is the
// peer's end of the connection. A packet larger than kMaxPacketBytes or with more than
// kMaxPacketFds descriptors is INVALID_ARGUMENT.
absl::StatusOr<Packet> ReceivePacket(int socket, bool accept_fds);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_FD_PASSING_H_
