#include "client/cpp/link.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"

namespace weightd::client {
namespace {

constexpr absl::Duration kRestartPatience = absl::Seconds(30);
constexpr absl::Duration kFirstDelay = absl::Milliseconds(20);
constexpr absl::Duration kLongestDelay = absl::Milliseconds(500);

// What a call meets whose daemon ends, or is another one by now.
bool IsAway(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return !status.ok() && (reason == Reason::kDaemonUnreachable || reason == Reason::kShuttingDown ||
                          reason == Reason::kSessionInvalid);
}

// Tries `call` again while the daemon is away.
absl::Status Retry(absl::Time deadline, absl::FunctionRef<absl::Status()> call) {
  const absl::Time end = std::min(deadline, absl::Now() + kRestartPatience);
  absl::Duration delay = kFirstDelay;
  for (;;) {
    absl::Status status = call();
    if (!IsAway(status) || absl::Now() + delay >= end) {
      return status;
    }
    absl::SleepFor(delay);
    delay = std::min(2 * delay, kLongestDelay);
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<Client::Link>> Client::Link::Open(std::string socket_dir,
                                                                 absl::Time deadline) {
  std::shared_ptr<Connection> connection;
  // What a daemon leaves that ended.
  const std::string lock = absl::StrCat(socket_dir, "/weightd.lock");
  const std::string socket = absl::StrCat(socket_dir, "/handles.sock");
  const bool was_there = access(lock.c_str(), F_OK) == 0 || access(socket.c_str(), F_OK) == 0;
  RETURN_IF_ERROR(Retry(was_there ? deadline : absl::InfinitePast(), [&]() -> absl::Status {
    ASSIGN_OR_RETURN(connection, Connection::Open(socket_dir, deadline));
    return absl::OkStatus();
  }));
  return std::shared_ptr<Link>(new Link(std::move(socket_dir), std::move(connection)));
}

std::shared_ptr<Client::Connection> Client::Link::connection() const {
  const absl::MutexLock lock(&mutex_);
  return connection_;
}

absl::Status Client::Link::Patiently(
    absl::Time deadline, absl::FunctionRef<absl::Status(const std::shared_ptr<Connection>&)> call) {
  std::shared_ptr<Connection> gone;
  return Retry(deadline, [&]() -> absl::Status {
    if (gone != nullptr) {
      RETURN_IF_ERROR(Reopen(gone, deadline));
    }
    const std::shared_ptr<Connection> now = connection();
    absl::Status status = call(now);
    gone = IsAway(status) ? now : nullptr;
    return status;
  });
}

absl::Status Client::Link::Reopen(const std::shared_ptr<Connection>& gone, absl::Time deadline) {
  if (connection() != gone) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(auto opened, Connection::Open(socket_dir_, deadline));
  const absl::MutexLock lock(&mutex_);
  if (connection_ == gone) {
    connection_ = std::move(opened);
  }
  return absl::OkStatus();
}

void Client::Link::Remember(const std::shared_ptr<HeldLease>& lease) {
  const absl::MutexLock lock(&mutex_);
  std::erase_if(leases_, [](const std::weak_ptr<HeldLease>& one) { return one.expired(); });
  leases_.push_back(lease);
}

void Client::Link::RenewLeases() {
  std::shared_ptr<Connection> connection;
  std::vector<std::weak_ptr<HeldLease>> leases;
  {
    const absl::MutexLock lock(&mutex_);
    connection = connection_;
    leases = leases_;
  }
  for (const std::weak_ptr<HeldLease>& one : leases) {
    if (const std::shared_ptr<HeldLease> lease = one.lock()) {
      lease->Renew(connection);
    }
  }
}

}  // namespace weightd::client
