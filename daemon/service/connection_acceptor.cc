#include "daemon/service/connection_acceptor.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "common/uptime.h"
#include "daemon/service/call.h"

namespace weightd::service {
namespace {

constexpr uint64_t kStopKey = 0;
constexpr uint64_t kListenKey = std::numeric_limits<uint64_t>::max();

}  // namespace

std::optional<Caller> Peers::CallerAt(absl::string_view grpc_peer) const {
  int descriptor = -1;
  if (!absl::ConsumePrefix(&grpc_peer, "fd:") || !absl::SimpleAtoi(grpc_peer, &descriptor)) {
    return std::nullopt;
  }
  absl::MutexLock lock(&mutex_);
  const auto found = by_descriptor_.find(descriptor);
  if (found == by_descriptor_.end()) {
    return std::nullopt;
  }
  return found->second;
}

void Peers::Add(int descriptor, Caller caller) {
  absl::MutexLock lock(&mutex_);
  by_descriptor_[descriptor] = std::move(caller);
}

absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> ConnectionAcceptor::Start(Fd listening,
                                                                              Limits limits,
                                                                              Reception reception,
                                                                              Serve serve) {
  ASSIGN_OR_RETURN(Wakeup wakeup, MakeWakeup(kStopKey));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kListenKey;
  if (epoll_ctl(wakeup.epoll.get(), EPOLL_CTL_ADD, listening.get(), &event) != 0) {
    return ErrnoError(errno, "watch a listening socket");
  }
  std::unique_ptr<ConnectionAcceptor> acceptor(new ConnectionAcceptor(
      std::move(listening), std::move(wakeup), limits, std::move(reception), std::move(serve)));
  acceptor->thread_ = std::thread([self = acceptor.get()] { self->Run(); });
  return acceptor;
}

ConnectionAcceptor::ConnectionAcceptor(Fd listening, Wakeup wakeup, Limits limits,
                                       Reception reception, Serve serve)
    : listening_(std::move(listening)),
      wakeup_(std::move(wakeup)),
      shares_(limits.connections, limits.users),
      rate_(limits.rate),
      reception_(std::move(reception)),
      serve_(std::move(serve)) {}

ConnectionAcceptor::~ConnectionAcceptor() {
  Wake(wakeup_.stop);
  thread_.join();
}

void ConnectionAcceptor::Run() {
  std::array<epoll_event, 64> events;
  while (true) {
    const int count = epoll_wait(wakeup_.epoll.get(), events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const uint64_t key = events[static_cast<size_t>(i)].data.u64;
      if (key == kStopKey) {
        return;
      }
      if (key == kListenKey) {
        AcceptWaiting(
            listening_.get(), spare_, [this](Fd connection) { Accept(std::move(connection)); },
            [this](int connection) { ReportUnserved(connection); });
      } else {
        Forget(key);
      }
    }
  }
}

void ConnectionAcceptor::ForgetEnded() {
  std::array<epoll_event, 64> events;
  size_t before = 0;
  do {
    before = connections_.size();
    const int count = epoll_wait(wakeup_.epoll.get(), events.data(), events.size(), 0);
    for (int i = 0; i < count; ++i) {
      Forget(events[static_cast<size_t>(i)].data.u64);
    }
  } while (connections_.size() < before);
}

bool ConnectionAcceptor::TakeShare(uint32_t uid) {
  if (shares_.TryTake(uid, 1)) {
    return true;
  }
  ForgetEnded();
  return shares_.TryTake(uid, 1);
}

void ConnectionAcceptor::ReportUnserved(int connection) {
  const absl::StatusOr<PeerUser> user = UserAt(connection);
  if (user.ok()) {
    ReportRefusedConnection(*reception_.observer, Caller{reception_.listener, user->uid, user->gid},
                            NoDescriptorLeft());
  }
}

void ConnectionAcceptor::Accept(Fd connection) {
  const absl::StatusOr<PeerUser> user = UserAt(connection.get());
  if (!user.ok()) {
    return;
  }
  Caller caller{reception_.listener, user->uid, user->gid};
  if (rate_ != nullptr && rate_->Take(user->uid, Uptime()) > absl::ZeroDuration()) {
    ReportRefusedConnection(*reception_.observer, std::move(caller), ConnectsTooOften());
    return;
  }
  absl::StatusOr<Fd> watched = connection.Duplicate();
  if (!watched.ok()) {
    ReportUnserved(connection.get());
    return;
  }
  if (!TakeShare(user->uid)) {
    ReportRefusedConnection(
        *reception_.observer, std::move(caller),
        Error(Reason::kTooManyRequests, "this listener has no connection left for this user"));
    return;
  }
  const uint64_t id = ++last_id_;
  // EPOLLHUP, which is always reported: both directions are shut down, by a peer that closed or by
  // gRPC, which shuts its connections down before it closes them.
  epoll_event event{};
  event.data.u64 = id;
  if (epoll_ctl(wakeup_.epoll.get(), EPOLL_CTL_ADD, watched->get(), &event) != 0) {
    shares_.GiveBack(user->uid, 1);
    return;
  }
  reception_.peers->Add(connection.get(), std::move(caller));
  connections_.emplace(id, Connection{*std::move(watched), user->uid});
  serve_(std::move(connection));
}

void ConnectionAcceptor::Forget(uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) {
    return;
  }
  shares_.GiveBack(found->second.uid, 1);
  connections_.erase(found);
}

}  // namespace weightd::service
