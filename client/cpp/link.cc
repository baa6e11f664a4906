#include "client/cpp/link.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"

namespace weightd::client {
namespace {

constexpr absl::Duration kFirstDelay = absl::Milliseconds(20);
constexpr absl::Duration kLongestDelay = absl::Milliseconds(500);
// Of the time there is, what the last try has.
constexpr absl::Duration kLastTry = absl::Milliseconds(50);
// What came back is not worth a longer wait.
constexpr absl::Duration kRenewalPatience = absl::Seconds(10);

// What a call meets whose daemon ends, or is another one by now.
bool IsAway(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return !status.ok() && (reason == Reason::kDaemonUnreachable || reason == Reason::kShuttingDown ||
                          reason == Reason::kSessionInvalid);
}

// Tries `call` again while the daemon is away, or what it loaded for us; see Link::Patiently.
absl::Status Retry(absl::Time deadline, absl::Duration patience, bool& loads,
                   absl::FunctionRef<absl::Status()> call) {
  absl::Time since = absl::InfinitePast();
  absl::Duration delay = kFirstDelay;
  bool joined = false;
  for (;;) {
    loads = false;
    absl::Status status = call();
    const bool away = IsAway(status);
    if (!away && !(joined && ReasonOf(status) == Reason::kNotAllowed)) {
      return status;
    }
    const absl::Time now = absl::Now();
    if (away && (loads || since == absl::InfinitePast())) {
      joined = joined || loads;
      since = now;
      delay = kFirstDelay;
    }
    // Whoever says how long to wait means the daemon, not those who use it.
    const absl::Time end = std::min(deadline, since + (away ? patience : kRestartPatience));
    const absl::Duration left = end - now - kLastTry;
    if (left <= absl::ZeroDuration()) {
      return status;
    }
    absl::SleepFor(std::min(delay, left));
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
  bool loads = false;
  RETURN_IF_ERROR(Retry(was_there ? deadline : absl::InfinitePast(), absl::InfiniteDuration(),
                        loads, [&]() -> absl::Status {
                          ASSIGN_OR_RETURN(connection, Connection::Open(socket_dir, deadline));
                          return absl::OkStatus();
                        }));
  return std::shared_ptr<Link>(new Link(std::move(socket_dir), std::move(connection)));
}

Client::Link::~Link() {
  const absl::MutexLock lock(&mutex_);
  if (renewing_ == nullptr) {
    return;
  }
  if (!connection_->session().IsOurs()) {
    // There is no such thread in a child.
    [[maybe_unused]] const std::thread* const lost = renewing_.release();
    return;
  }
  ending_.Cancel(Error(Reason::kCancelled, "the client ends"));
  renewing_->join();
}

std::shared_ptr<Client::Connection> Client::Link::connection() const {
  const absl::MutexLock lock(&mutex_);
  return connection_;
}

absl::Status Client::Link::Patiently(
    absl::Time deadline, absl::Duration patience, bool& loads,
    absl::FunctionRef<absl::Status(const std::shared_ptr<Connection>&)> call) {
  std::shared_ptr<Connection> gone;
  return Retry(deadline, patience, loads, [&]() -> absl::Status {
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

void Client::Link::RenewLeases(absl::Time deadline) {
  std::shared_ptr<Connection> connection;
  std::vector<std::weak_ptr<HeldLease>> leases;
  {
    const absl::MutexLock lock(&mutex_);
    connection = connection_;
    leases = leases_;
  }
  Leases on_host;
  Leases on_gpus;
  for (const std::weak_ptr<HeldLease>& one : leases) {
    std::shared_ptr<HeldLease> lease = one.lock();
    if (lease != nullptr && lease->NeedsRenewal(connection)) {
      (lease->on_gpu() ? on_gpus : on_host).push_back(std::move(lease));
    }
  }
  if (!on_gpus.empty()) {
    const absl::MutexLock lock(&mutex_);
    RenewLater(std::move(on_gpus), connection);
  }
  const absl::Time end = std::min(deadline, absl::Now() + kRenewalPatience);
  for (const std::shared_ptr<HeldLease>& lease : on_host) {
    lease->Renew(connection, end, ending_);
  }
}

void Client::Link::RenewLater(Leases leases, std::shared_ptr<Connection> connection) {
  if (renews_) {
    return;
  }
  if (renewing_ != nullptr) {
    renewing_->join();  // it is over
  }
  renews_ = true;
  renewing_ = std::make_unique<std::thread>(
      [this, leases = std::move(leases), connection = std::move(connection)]() mutable {
        const absl::Time end = absl::Now() + kRenewalPatience;
        for (std::shared_ptr<HeldLease>& lease : leases) {
          lease->Renew(connection, end, ending_);
          lease.reset();
        }
        connection.reset();
        renews_ = false;
      });
}

}  // namespace weightd::client
