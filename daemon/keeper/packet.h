#ifndef WEIGHTD_DAEMON_KEEPER_PACKET_H_
#define WEIGHTD_DAEMON_KEEPER_PACKET_H_

#include <string>
#include <string_view>
#include <vector>

#include "common/fd.h"

namespace weightd::keeper {

struct Packet {
  std::string text;
  std::vector<Fd> fds;
  // Longer than any request, or with more descriptors than are taken; the rest is lost.
  bool cut = false;
};

enum class Outcome { kDone, kLater, kGone };

// The next packet of a SOCK_SEQPACKET socket, without waiting: kLater if there is none.
Outcome Receive(int socket, Packet& packet);

// Sends one, with a duplicate of `fd` unless that is -1, without waiting: kLater if the peer has no
// room for it.
Outcome Send(int socket, std::string_view text, int fd = -1);

}  // namespace weightd::keeper

#endif  // WEIGHTD_DAEMON_KEEPER_PACKET_H_
