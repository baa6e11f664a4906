#include "daemon/service/accept.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "common/status.h"

namespace weightd::service {
namespace {

// So that a flood of connections doesn't keep a thread from what else it watches.
constexpr int kAcceptsAtOnce = 64;

}  // namespace

SpareDescriptor::SpareDescriptor() : spare_(open("/dev/null", O_RDONLY | O_CLOEXEC)) {}

void SpareDescriptor::Refuse(int listening, absl::FunctionRef<void(int)> refused) {
  spare_.Reset();
  Fd connection(accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (connection.valid()) {
    refused(connection.get());
  }
  connection.Reset();
  spare_.Reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

void AcceptWaiting(int listening, SpareDescriptor& spare, absl::FunctionRef<void(Fd)> accepted,
                   absl::FunctionRef<void(int)> refused) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    Fd connection(accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.valid()) {
      accepted(std::move(connection));
    } else if (errno == EMFILE || errno == ENFILE) {
      spare.Refuse(listening, refused);
    } else if (errno != ECONNABORTED && errno != EINTR) {
      return;
    }
  }
}

absl::Status NoDescriptorLeft() {
  return Error(Reason::kTooManyRequests, "the daemon has no descriptor left for a connection",
               "raise its limit of open files (ulimit -Hn, LimitNOFILE= of its unit)");
}

absl::StatusOr<PeerUser> UserAt(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return ErrnoError(errno, "ask for the peer's user");
  }
  return PeerUser{credentials.uid, credentials.gid};
}

absl::StatusOr<Wakeup> MakeWakeup(uint64_t key) {
  Wakeup wakeup{Fd(epoll_create1(EPOLL_CLOEXEC)), Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))};
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = key;
  if (!wakeup.epoll.valid() || !wakeup.stop.valid() ||
      epoll_ctl(wakeup.epoll.get(), EPOLL_CTL_ADD, wakeup.stop.get(), &event) != 0) {
    return ErrnoError(errno, "make an epoll set");
  }
  return wakeup;
}

void Wake(const Fd& stop) {
  const uint64_t one = 1;
  // Fails only when the counter is at its limit: then it is readable already.
  [[maybe_unused]] const ssize_t written = write(stop.get(), &one, sizeof(one));
}

}  // namespace weightd::service
