#include "daemon/keeper/packet.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "common/received_fds.h"
#include "daemon/fd_store/keeper_protocol.h"

namespace weightd::keeper {
namespace {

// More than any request has, so that one with too many is told from one with as many as it should.
constexpr size_t kMaxFds = 4;

Outcome OutcomeOf(int error_number) {
  return error_number == EAGAIN || error_number == EINTR ? Outcome::kLater : Outcome::kGone;
}

}  // namespace

Outcome Receive(int socket, Packet& packet) {
  std::array<char, fd_store::kMaxKeeperPacket> bytes;
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (received < 0) {
    return OutcomeOf(errno);
  }
  packet.fds = ReceivedFds(message);
  packet.text.assign(bytes.data(), static_cast<size_t>(received));
  packet.cut = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  // An empty packet is the peer's end.
  return received == 0 ? Outcome::kGone : Outcome::kDone;
}

Outcome Send(int socket, std::string_view text, int fd) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  const ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent >= 0 ? Outcome::kDone : OutcomeOf(errno);
}

}  // namespace weightd::keeper
