#include "common/fd_passing.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/received_fds.h"
#include "common/status.h"

namespace weightd {
namespace {

// SCM_MAX_FD, the kernel's limit for one message.
constexpr size_t kMaxSentFds = 253;
// That wait to be closed.
constexpr size_t kMaxDroppedFds = 1024;

bool WouldBlock(int error_number) { return error_number == EAGAIN || error_number == EWOULDBLOCK; }

// Closes descriptors on a thread of its own, which lives as long as the process.
class Dropper {
 public:
  static Dropper& Instance() {
    static Dropper* const dropper = new Dropper();
    return *dropper;
  }

  void Drop(std::vector<Fd> fds) ABSL_LOCKS_EXCLUDED(mutex_) {
    constexpr linger kNoLinger{};
    for (const Fd& fd : fds) {
      setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &kNoLinger, sizeof(kNoLinger));
    }
    absl::MutexLock lock(&mutex_);
    // Beyond, they are closed here: descriptors are as scarce as time.
    if (dropped_.size() < kMaxDroppedFds) {
      std::move(fds.begin(), fds.end(), std::back_inserter(dropped_));
    }
  }

 private:
  Dropper() {
    std::thread([this] { Run(); }).detach();
  }

  void Run() ABSL_LOCKS_EXCLUDED(mutex_) {
    while (true) {
      std::vector<Fd> closing;
      {
        absl::MutexLock lock(&mutex_, absl::Condition(this, &Dropper::HasDropped));
        closing.swap(dropped_);
      }
      closing.clear();
    }
  }
  bool HasDropped() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !dropped_.empty(); }

  absl::Mutex mutex_;
  std::vector<Fd> dropped_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

ssize_t ReceiveMessage(int socket, msghdr& message, int flags) {
  return syscall(SYS_recvmsg, socket, &message, flags);
}

ssize_t ReceiveWithoutDescriptors(int socket, msghdr& message, int flags) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxSentFds * sizeof(int))];
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t received = ReceiveMessage(socket, message, flags | MSG_CMSG_CLOEXEC);
  const int error_number = errno;
  if (received >= 0 && message.msg_controllen > 0) {
    std::vector<Fd> fds = ReceivedFds(message);
    if (!fds.empty()) {
      Dropper::Instance().Drop(std::move(fds));
    }
  }
  message.msg_control = nullptr;
  message.msg_controllen = 0;
  errno = error_number;
  return received;
}

absl::Status SendPacket(int socket, absl::string_view bytes, absl::Span<const int> fds) {
  if (bytes.size() > kMaxPacketBytes || fds.size() > kMaxPacketFds) {
    return Error(Reason::kInternal, absl::StrCat("packet of ", bytes.size(), " bytes and ",
                                                 fds.size(), " descriptors is too large to send"));
  }
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPacketFds * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent = -1;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    const absl::Status cause = ErrnoError(errno, "send a packet");
    return absl::UnavailableError(cause.message());
  }
  return absl::OkStatus();
}

absl::StatusOr<Packet> ReceivePacket(int socket, bool accept_fds) {
  Packet packet;
  packet.bytes.resize(kMaxPacketBytes);
  iovec part{packet.bytes.data(), packet.bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPacketFds * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (accept_fds) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
  }
  ssize_t received = -1;
  do {
    received = accept_fds ? ReceiveMessage(socket, message, MSG_CMSG_CLOEXEC)
                          : ReceiveWithoutDescriptors(socket, message, 0);
  } while (received < 0 && errno == EINTR);
  if (received < 0) {
    const int error_number = errno;
    const absl::Status cause = ErrnoError(error_number, "receive a packet");
    return WouldBlock(error_number) ? absl::UnavailableError(cause.message()) : cause;
  }
  if (accept_fds) {
    packet.fds = ReceivedFds(message);
  }
  if ((message.msg_flags & MSG_TRUNC) != 0 ||
      (accept_fds && (message.msg_flags & MSG_CTRUNC) != 0)) {
    return Error(Reason::kInvalidArgument, "packet is larger than the handle channel allows");
  }
  packet.bytes.resize(static_cast<size_t>(received));
  return packet;
}

}  // namespace weightd
