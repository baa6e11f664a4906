#include "daemon/fd_store/systemd_carrier.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "common/notify.h"
#include "common/status.h"
#include "daemon/fd_store/keeper_protocol.h"

namespace weightd::fd_store {
namespace {

constexpr int kPatienceMs = 5000;

}  // namespace

SystemdCarrier::SystemdCarrier(std::string address, Inherited inherited, Fd interrupted)
    : address_(std::move(address)),
      limit_(inherited.limit.value_or(kMaxStored)),
      interrupted_(std::move(interrupted)),
      inherited_(std::move(inherited.fds)) {}

absl::StatusOr<std::unique_ptr<SystemdCarrier>> SystemdCarrier::Make(std::string address,
                                                                     Inherited inherited) {
  Fd interrupted(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!interrupted.valid()) {
    return ErrnoError(errno, "prepare to talk to systemd");
  }
  return std::unique_ptr<SystemdCarrier>(
      new SystemdCarrier(std::move(address), std::move(inherited), std::move(interrupted)));
}

absl::StatusOr<std::vector<StoredFd>> SystemdCarrier::List() {
  return std::exchange(inherited_, {});
}

absl::Status SystemdCarrier::Store(const std::string& name, const Fd& fd) {
  return Say(StoreRequest(name), fd);
}

absl::Status SystemdCarrier::Remove(const std::string& name) {
  return Say(RemoveRequest(name), Fd());
}

absl::Status SystemdCarrier::Settle() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return ErrnoError(errno, "make a pipe for systemd to close");
  }
  const Fd ours(ends[0]);
  Fd theirs(ends[1]);
  RETURN_IF_ERROR(Say("BARRIER=1", theirs));
  // From here on systemd has the only one.
  theirs.Reset();
  pollfd waits[] = {{interrupted_.get(), POLLIN, 0}, {ours.get(), 0, 0}};
  while (poll(waits, 2, kPatienceMs) < 0 && errno == EINTR) {
  }
  return (waits[1].revents & POLLHUP) != 0
             ? absl::OkStatus()
             : Error(Reason::kDaemonUnreachable, "systemd takes no notice");
}

void SystemdCarrier::Interrupt() { eventfd_write(interrupted_.get(), 1); }

absl::Status SystemdCarrier::Say(const std::string& message, const Fd& fd) const {
  const int error_number = Notify(address_, message, fd.get());
  return error_number == 0 ? absl::OkStatus()
                           : Error(Reason::kDaemonUnreachable,
                                   ErrnoError(error_number, "tell systemd").message());
}

}  // namespace weightd::fd_store
