#include "daemon/service/connection_guard.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/fd_passing.h"
#include "common/uptime.h"
#include "daemon/service/http2_meter.h"

namespace weightd::service {
namespace {

// A number that no other socket has while the machine runs.
std::optional<uint64_t> CookieOf(int socket) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) {
    return std::nullopt;
  }
  return cookie;
}

// One connection's.
class Guard {
 public:
  Guard(uint64_t cookie, uint32_t unacknowledged_streams)
      : cookie_(cookie), meter_(unacknowledged_streams, Uptime()) {}

  // Of a descriptor's number that another socket may have by now.
  bool IsOf(int socket) const { return CookieOf(socket) == cookie_; }

  // gRPC's settings are the first that it sends, and in force, once acknowledged, as it sends them.
  void Sends() { sent_ = true; }
  bool Count(const msghdr& message, size_t received) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::Duration now = Uptime();
    const bool sent = sent_;
    absl::MutexLock lock(&mutex_);
    bool fine = true;
    for (size_t i = 0; i < message.msg_iovlen && received > 0; ++i) {
      const iovec& part = message.msg_iov[i];
      const size_t size = std::min(part.iov_len, received);
      fine = meter_.Count({static_cast<const char*>(part.iov_base), size}, now, sent);
      received -= size;
    }
    return fine;
  }

 private:
  const uint64_t cookie_;
  std::atomic<bool> sent_ = false;
  absl::Mutex mutex_;
  Http2Meter meter_ ABSL_GUARDED_BY(mutex_);
};

// By the descriptor's number: as many as there are descriptors, though nobody tells of their end.
class Guards {
 public:
  static Guards& Instance() {
    // Never destroyed: gRPC's threads outlive main().
    static Guards* const guards = new Guards();
    return *guards;
  }

  void Add(int socket, std::shared_ptr<Guard> guard) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    by_descriptor_[socket] = std::move(guard);
  }

  // Null for sockets that nobody guards.
  std::shared_ptr<Guard> Of(int socket) const ABSL_LOCKS_EXCLUDED(mutex_) {
    std::shared_ptr<Guard> guard;
    {
      absl::ReaderMutexLock lock(&mutex_);
      const auto found = by_descriptor_.find(socket);
      if (found == by_descriptor_.end()) {
        return nullptr;
      }
      guard = found->second;
    }
    return guard->IsOf(socket) ? guard : nullptr;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<int, std::shared_ptr<Guard>> by_descriptor_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

void GuardConnection(int socket, uint32_t unacknowledged_streams) {
  const std::optional<uint64_t> cookie = CookieOf(socket);
  if (cookie.has_value()) {
    Guards::Instance().Add(socket, std::make_shared<Guard>(*cookie, unacknowledged_streams));
  }
}

}  // namespace weightd::service

extern "C" ssize_t recvmsg(int socket, msghdr* message, int flags) {
  namespace service = weightd::service;
  const std::shared_ptr<service::Guard> guard = service::Guards::Instance().Of(socket);
  if (guard == nullptr) {
    return weightd::ReceiveMessage(socket, *message, flags);
  }
  const ssize_t received = weightd::ReceiveWithoutDescriptors(socket, *message, flags);
  if (received > 0 && !guard->Count(*message, static_cast<size_t>(received))) {
    shutdown(socket, SHUT_RDWR);
    errno = ECONNRESET;
    return -1;
  }
  return received;
}

extern "C" ssize_t sendmsg(int socket, const msghdr* message, int flags) {
  namespace service = weightd::service;
  const std::shared_ptr<service::Guard> guard = service::Guards::Instance().Of(socket);
  if (guard != nullptr) {
    guard->Sends();
  }
  return syscall(SYS_sendmsg, socket, message, flags);
}
