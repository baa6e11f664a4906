#ifndef WEIGHTD_DAEMON_SERVICE_ACCEPT_H_
#define WEIGHTD_DAEMON_SERVICE_ACCEPT_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/fd.h"

namespace weightd::service {

// A descriptor kept for the moment when no other is left: without it, a connection that can't be
// accepted keeps its listening socket ready for ever.
class SpareDescriptor {
 public:
  SpareDescriptor();

  // Accepts one connection, lets `refused` look at it, and closes it.
  void Refuse(int listening, absl::FunctionRef<void(int)> refused);

 private:
  Fd spare_;
};

// Takes the connections that wait on a non-blocking listening socket, at most 64, close-on-exec and
// non-blocking. Those for which no descriptor is left are shown to `refused` and closed.
void AcceptWaiting(int listening, SpareDescriptor& spare, absl::FunctionRef<void(Fd)> accepted,
                   absl::FunctionRef<void(int)> refused);

// Why they are.
absl::Status NoDescriptorLeft();

// Who is at the other end, as the kernel saw it when the connection was made (SO_PEERCRED).
struct PeerUser {
  uint32_t uid = 0;
  uint32_t gid = 0;
};
absl::StatusOr<PeerUser> UserAt(int socket);

// An eventfd that is readable once somebody wrote to it, and an epoll set that watches it under
// `key`.
struct Wakeup {
  Fd epoll;
  Fd stop;
};
absl::StatusOr<Wakeup> MakeWakeup(uint64_t key);
void Wake(const Fd& stop);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_ACCEPT_H_
