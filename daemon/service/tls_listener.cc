#include "daemon/service/tls_listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/service/call.h"
#include "daemon/service/tcp_address.h"

namespace weightd::service {
namespace {

// epoll keys. A connection has two: its number doubled is its socket's, the next is the inside's.
constexpr uint64_t kStopKey = 0;
constexpr uint64_t kListenKey = 1;

// How often the certificates are looked at while nobody connects, and deadlines while some run.
constexpr int kIdleMs = 5000;
constexpr int kBusyMs = 500;
// For a peer to take the last bytes.
constexpr absl::Duration kLastBytes = absl::Seconds(5);

// Changes what epoll watches of a descriptor under `key`. Nothing at all is watched for no events:
// an end that nobody asked for would be told again and again.
bool SetEvents(int epoll, int descriptor, uint64_t key, uint32_t wanted, uint32_t& watched) {
  if (wanted == watched) {
    return true;
  }
  const int operation =
      wanted == 0 ? EPOLL_CTL_DEL : (watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD);
  watched = wanted;
  epoll_event event{};
  event.events = wanted;
  event.data.u64 = key;
  return epoll_ctl(epoll, operation, descriptor, &event) == 0;
}

// Reads what nobody wants: bytes that were never read would make the kernel take back what was sent
// before, such as why the peer is refused. False at their end.
bool Discard(int socket) {
  std::array<char, 4096> bytes;
  const ssize_t count = recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
  return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsListener>> TlsListener::Start(Fd listening,
                                                                TlsCertificates certificates,
                                                                Limits limits, Reception reception,
                                                                Serve serve) {
  ASSIGN_OR_RETURN(Wakeup wakeup, MakeWakeup(kStopKey));
  uint32_t watched = 0;
  if (!SetEvents(wakeup.epoll.get(), listening.get(), kListenKey, EPOLLIN, watched)) {
    return ErrnoError(errno, "watch a listening socket");
  }
  std::unique_ptr<TlsListener> listener(new TlsListener(std::move(listening), std::move(wakeup),
                                                        std::move(certificates), limits,
                                                        std::move(reception), std::move(serve)));
  listener->thread_ = std::thread([self = listener.get()] { self->Run(); });
  return listener;
}

TlsListener::TlsListener(Fd listening, Wakeup wakeup, TlsCertificates certificates, Limits limits,
                         Reception reception, Serve serve)
    : listening_(std::move(listening)),
      address_(OwnAddress(listening_.get())),
      wakeup_(std::move(wakeup)),
      certificates_(std::move(certificates)),
      limits_(limits),
      reception_(std::move(reception)),
      serve_(std::move(serve)) {}

TlsListener::Peer::Peer(Fd socket, std::shared_ptr<const TlsIdentity> identity,
                        absl::Time handshake_until)
    : tls(std::move(socket), std::move(identity)),
      address(PeerAddress(tls.socket())),
      deadline(handshake_until) {}

TlsListener::~TlsListener() {
  ending_ = true;
  Wake(wakeup_.stop);
  thread_.join();
}

void TlsListener::StopAccepting() {
  Wake(wakeup_.stop);
  closed_.WaitForNotification();
}

void TlsListener::Run() {
  std::array<epoll_event, 64> events;
  while (true) {
    const int count =
        epoll_wait(wakeup_.epoll.get(), events.data(), events.size(), MillisecondsToWait());
    for (int i = 0; i < count; ++i) {
      const uint64_t key = events[static_cast<size_t>(i)].data.u64;
      if (key == kStopKey) {
        if (!Obey()) {
          return;
        }
      } else if (key == kListenKey) {
        AcceptWaiting(
            listening_.get(), spare_, [this](Fd connection) { Accept(std::move(connection)); },
            [this](int connection) { ReportUnserved(connection); });
      } else {
        Continue(key / 2);
      }
    }
    EndLate();
    if (!closed_.HasBeenNotified()) {
      certificates_.Current();
    }
  }
}

bool TlsListener::Obey() {
  if (ending_) {
    return false;
  }
  uint64_t wakes = 0;
  [[maybe_unused]] const ssize_t bytes = read(wakeup_.stop.get(), &wakes, sizeof(wakes));
  if (!closed_.HasBeenNotified()) {
    listening_.Reset();
    std::erase_if(peers_,
                  [](const auto& peer) { return peer.second->state != Peer::State::kOpen; });
    closed_.Notify();
  }
  return true;
}

int TlsListener::MillisecondsToWait() const {
  const bool deadlines = std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) {
    return peer.second->deadline != absl::InfiniteFuture();
  });
  return deadlines ? kBusyMs : kIdleMs;
}

size_t TlsListener::CountOpen() const {
  return static_cast<size_t>(std::count_if(peers_.begin(), peers_.end(), [](const auto& peer) {
    return peer.second->state == Peer::State::kOpen;
  }));
}

void TlsListener::DropOldestHandshake() {
  const auto oldest = std::find_if(peers_.begin(), peers_.end(), [](const auto& peer) {
    return peer.second->state != Peer::State::kOpen;
  });
  Refuse(*oldest->second, Error(Reason::kTooManyRequests, "too many handshakes at once"));
  peers_.erase(oldest);
}

void TlsListener::ReportUnserved(int connection) {
  ReportRefusedConnection(
      *reception_.observer,
      Caller{.listener = reception_.listener, .address = PeerAddress(connection)},
      NoDescriptorLeft());
}

void TlsListener::Accept(Fd connection) {
  const int on = 1;
  setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (peers_.size() - CountOpen() >= limits_.handshakes) {
    DropOldestHandshake();
  }
  const uint64_t id = ++last_id_;
  peers_.emplace(id, std::make_unique<Peer>(std::move(connection), certificates_.Current(),
                                            absl::Now() + limits_.handshake));
  Continue(id);
}

void TlsListener::Continue(uint64_t id) {
  const auto found = peers_.find(id);
  if (found != peers_.end() && (!Advance(*found->second) || !Watch(id, *found->second))) {
    peers_.erase(found);
  }
}

bool TlsListener::Advance(Peer& peer) {
  if (peer.state == Peer::State::kHandshake && !ContinueHandshake(peer)) {
    return false;
  }
  if (peer.state == Peer::State::kRefused) {
    return Discard(peer.tls.socket());
  }
  if (peer.state == Peer::State::kOpen) {
    if (!peer.tls.Move()) {
      return false;
    }
    if (peer.tls.ending() && peer.deadline == absl::InfiniteFuture()) {
      peer.deadline = absl::Now() + kLastBytes;
    }
  }
  return true;
}

bool TlsListener::ContinueHandshake(Peer& peer) {
  switch (peer.tls.ContinueHandshake()) {
    case TlsConnection::Handshake::kRuns:
      return true;
    case TlsConnection::Handshake::kFailed:
      Refuse(peer,
             Error(Reason::kNotAllowed, absl::StrCat("no TLS connection: ", peer.tls.Refusal())));
      return true;
    case TlsConnection::Handshake::kDone:
      break;
  }
  if (CountOpen() >= limits_.connections) {
    Refuse(peer, Error(Reason::kTooManyRequests, "this listener has no connection left"));
    return true;
  }
  return LetIn(peer);
}

bool TlsListener::LetIn(Peer& peer) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return false;
  }
  peer.tls.Open(Fd(ends[0]));
  Fd theirs(ends[1]);
  peer.state = Peer::State::kOpen;
  peer.deadline = absl::InfiniteFuture();
  reception_.peers->Add(theirs.get(), Caller{.listener = reception_.listener,
                                             .certificate = peer.tls.NameOfPeer(),
                                             .address = peer.address});
  serve_(std::move(theirs));
  return true;
}

bool TlsListener::Watch(uint64_t id, Peer& peer) {
  const int epoll = wakeup_.epoll.get();
  return SetEvents(epoll, peer.tls.socket(), id * 2, peer.tls.SocketEvents(), peer.socket_events) &&
         (peer.state != Peer::State::kOpen ||
          SetEvents(epoll, peer.tls.inside(), id * 2 + 1, peer.tls.InsideEvents(),
                    peer.inside_events));
}

void TlsListener::Refuse(Peer& peer, absl::Status why) {
  if (peer.state == Peer::State::kRefused) {
    return;
  }
  Caller caller{.listener = reception_.listener, .address = peer.address};
  ReportRefusedConnection(*reception_.observer, std::move(caller), std::move(why));
  shutdown(peer.tls.socket(), SHUT_WR);
  peer.state = Peer::State::kRefused;
  peer.deadline = absl::Now() + kLastBytes;
}

void TlsListener::EndLate() {
  const absl::Time now = absl::Now();
  for (auto next = peers_.begin(); next != peers_.end();) {
    Peer& peer = *next->second;
    if (peer.deadline > now) {
      ++next;
      continue;
    }
    if (peer.state == Peer::State::kHandshake) {
      Refuse(peer, Error(Reason::kDeadline, "its handshake took too long"));
    }
    next = peers_.erase(next);
  }
}

}  // namespace weightd::service
