#include "common/notify.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "common/fd.h"

namespace weightd {
namespace {

// A manager that is busy reads within this, or misses the message.
constexpr timeval kSendTimeout{.tv_sec = 5, .tv_usec = 0};

}  // namespace

int Notify(const std::string& address, std::string_view message, int fd) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (address.empty() || (address[0] != '/' && address[0] != '@') ||
      address.size() >= sizeof(to.sun_path)) {
    return EAFNOSUPPORT;
  }
  std::memcpy(to.sun_path, address.data(), address.size());
  if (address[0] == '@') {
    to.sun_path[0] = '\0';
  }
  iovec part{const_cast<char*>(message.data()), message.size()};
  msghdr packet{};
  packet.msg_name = &to;
  // The kernel takes every byte of an abstract name, also zeros at its end.
  packet.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    packet.msg_control = control;
    packet.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&packet);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  const Fd out(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!out.valid() ||
      setsockopt(out.get(), SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof(kSendTimeout)) != 0 ||
      sendmsg(out.get(), &packet, MSG_NOSIGNAL) < 0) {
    return errno;
  }
  return 0;
}

}  // namespace weightd
