#include "daemon/service/handle_channel.h"

#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/fd_passing.h"
#include "common/status.h"
#include "common/uptime.h"
#include "common/version.h"
#include "daemon/service/call.h"
#include "daemon/service/error_detail.h"
#include "weightd/v1/handles.pb.h"

namespace weightd::service {
namespace {

// epoll keys that are no session's.
constexpr uint64_t kStopKey = 0;
constexpr uint64_t kListenKey = std::numeric_limits<uint64_t>::max();

// Memory of the last unread answer that the kernel still counts while it tells us that it was read;
// any real packet counts hundreds of bytes.
constexpr int kReadRemainder = 64;

// Whether the peer has received everything we sent.
bool ReadByPeer(int socket) {
  int unread = 0;
  return ioctl(socket, SIOCOUTQ, &unread) == 0 && unread <= kReadRemainder;
}

absl::Status Send(int socket, const v1::HandleReply& reply, absl::Span<const int> fds = {}) {
  return SendPacket(socket, reply.SerializeAsString(), fds);
}

v1::HandleReply Failure(LeaseId lease, const absl::Status& status) {
  v1::HandleReply reply;
  reply.mutable_failed()->set_lease_id(lease.value());
  *reply.mutable_failed()->mutable_error() = ToErrorDetail(status, "");
  return reply;
}

v1::HandleReply HandlesOf(LeaseId lease, absl::Span<const cache::ClaimedHandle> claimed) {
  v1::HandleReply reply;
  v1::Handles& handles = *reply.mutable_handles();
  handles.set_lease_id(lease.value());
  for (const cache::ClaimedHandle& one : claimed) {
    v1::Handle& handle = *handles.add_handles();
    handle.set_kind(static_cast<v1::Handle::Kind>(one.kind));
    handle.set_nbytes(one.bytes);
  }
  return reply;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HandleChannel>> HandleChannel::Start(Fd listening,
                                                                    HandleChannelOptions options,
                                                                    Daemon daemon) {
  ASSIGN_OR_RETURN(Wakeup wakeup, MakeWakeup(kStopKey));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kListenKey;
  if (epoll_ctl(wakeup.epoll.get(), EPOLL_CTL_ADD, listening.get(), &event) != 0) {
    return ErrnoError(errno, "watch the handle socket");
  }
  std::unique_ptr<HandleChannel> channel(
      new HandleChannel(std::move(listening), std::move(wakeup.epoll), std::move(wakeup.stop),
                        std::move(options), daemon));
  channel->thread_ = std::thread([self = channel.get()] { self->Run(); });
  return channel;
}

HandleChannel::HandleChannel(Fd listening, Fd epoll, Fd stop, HandleChannelOptions options,
                             Daemon daemon)
    : options_(std::move(options)),
      daemon_(daemon),
      listening_(std::move(listening)),
      epoll_(std::move(epoll)),
      stop_(std::move(stop)),
      shares_(static_cast<uint32_t>(options_.max_sessions), options_.users) {}

HandleChannel::~HandleChannel() {
  Wake(stop_);
  thread_.join();
  while (!peers_.empty()) {
    End(peers_.begin()->first);
  }
}

void HandleChannel::Run() {
  std::array<epoll_event, 64> events;
  while (true) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      if (event.data.u64 == kStopKey) {
        return;
      }
      if (event.data.u64 == kListenKey) {
        AcceptAll();
        continue;
      }
      const SessionId id(event.data.u64);
      const auto peer = peers_.find(id);
      if (peer != peers_.end() && ((event.events & EPOLLHUP) != 0 || !Serve(id, peer->second))) {
        End(id);
      }
    }
  }
}

void HandleChannel::AcceptAll() {
  AcceptWaiting(
      listening_.get(), spare_, [this](Fd socket) { Welcome(std::move(socket)); },
      [this](int socket) {
        if (const absl::StatusOr<PeerUser> user = UserAt(socket); user.ok()) {
          ReportRefusedConnection(*daemon_.observer, CallerOf(*user), NoDescriptorLeft());
        }
      });
}

Caller HandleChannel::CallerOf(const PeerUser& user) const {
  return {options_.listener, user.uid, user.gid};
}

void HandleChannel::Welcome(Fd socket) {
  const absl::StatusOr<PeerUser> user = UserAt(socket.get());
  if (!user.ok()) {
    return;
  }
  if (options_.rate != nullptr && options_.rate->Take(user->uid, Uptime()) > absl::ZeroDuration()) {
    ReportRefusedConnection(*daemon_.observer, CallerOf(*user), ConnectsTooOften());
    return;
  }
  if (!shares_.TryTake(user->uid, 1)) {
    const absl::Status full =
        Error(Reason::kTooManyRequests, "this listener has no session left for this user",
              "end other clients, or raise max_sessions of the listener");
    Send(socket.get(), Failure(LeaseId(), full)).IgnoreError();
    ReportRefusedConnection(*daemon_.observer, CallerOf(*user), full);
    return;
  }
  absl::StatusOr<Sessions::Opened> session = daemon_.sessions->Open(options_.listener, user->uid);
  if (!session.ok()) {
    shares_.GiveBack(user->uid, 1);
    return;
  }
  v1::HandleReply reply;
  reply.mutable_hello()->set_session_token(std::move(session->token));
  reply.mutable_hello()->set_protocol_version(kProtocolVersion);
  reply.mutable_hello()->set_daemon_version(std::string(kVersion));

  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = session->id.value();
  const bool watched = epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket.get(), &event) == 0;
  Peer& peer = peers_[session->id];
  peer.socket = std::move(socket);
  peer.user = *user;
  ++session_count_;
  if (!watched || !Send(peer.socket.get(), reply).ok() || !Await(session->id, peer, true)) {
    End(session->id);
  }
}

bool HandleChannel::Serve(SessionId id, Peer& peer) {
  if (!peer.answered) {
    return AnswerNext(id, peer);
  }
  if (!ReadByPeer(peer.socket.get())) {
    return true;
  }
  if (peer.descriptors > 0) {
    daemon_.in_flight->GiveBack(peer.user.uid, std::exchange(peer.descriptors, 0U));
  }
  return Await(id, peer, false);
}

bool HandleChannel::AnswerNext(SessionId id, Peer& peer) {
  const absl::StatusOr<Packet> packet = ReceivePacket(peer.socket.get(), /*accept_fds=*/false);
  if (absl::IsUnavailable(packet.status())) {
    return true;
  }
  v1::HandleRequest request;
  if (packet.ok() && packet->bytes.empty()) {
    return false;
  }
  if (!packet.ok() || !request.ParseFromString(packet->bytes) || !request.has_claim()) {
    const absl::Status malformed =
        Error(Reason::kInvalidArgument, "not a request of the handle channel; the session ends");
    Send(peer.socket.get(), Failure(LeaseId(), malformed)).IgnoreError();
    return false;
  }
  return AnswerClaim(id, LeaseId(request.claim().lease_id()), peer) && Await(id, peer, true);
}

bool HandleChannel::AnswerClaim(SessionId id, LeaseId lease, Peer& peer) {
  Call call(daemon_.observer, CallerOf(peer.user),
            {"Claim", {}, absl::StrCat("lease=", lease.value())});
  const absl::Status claimed = Claim(id, lease, peer);
  call.SetOutcome(claimed);
  return claimed.ok() || Send(peer.socket.get(), Failure(lease, claimed)).ok();
}

absl::Status HandleChannel::Claim(SessionId id, LeaseId lease, Peer& peer) {
  // At the most.
  constexpr uint32_t kDescriptors = 3;
  absl::Status too_many =
      Error(Reason::kTooManyRequests, "too many descriptors wait for clients to receive them",
            "try again");
  if (!daemon_.in_flight->TryTake(peer.user.uid, kDescriptors)) {
    return too_many;
  }
  const absl::StatusOr<std::vector<cache::ClaimedHandle>> claimed = daemon_.cache->Claim(id, lease);
  if (!claimed.ok()) {
    daemon_.in_flight->GiveBack(peer.user.uid, kDescriptors);
    return claimed.status();
  }
  std::vector<int> fds;
  fds.reserve(claimed->size());
  for (const cache::ClaimedHandle& one : *claimed) {
    fds.push_back(one.fd.get());
  }
  if (!Send(peer.socket.get(), HandlesOf(lease, *claimed), fds).ok()) {
    // The peer is gone, or the kernel has no room for descriptors in flight (ETOOMANYREFS).
    daemon_.in_flight->GiveBack(peer.user.uid, kDescriptors);
    return too_many;
  }
  peer.descriptors = kDescriptors;
  return absl::OkStatus();
}

bool HandleChannel::Await(SessionId id, Peer& peer, bool answered) {
  // The end of a connection (EPOLLHUP) is always reported. EPOLLOUT with EPOLLET is reported each
  // time the peer reads.
  epoll_event event{};
  event.events = answered ? EPOLLOUT | EPOLLET : EPOLLIN;
  event.data.u64 = id.value();
  peer.answered = answered;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, peer.socket.get(), &event) == 0;
}

void HandleChannel::End(SessionId id) {
  const auto found = peers_.find(id);
  if (found->second.descriptors > 0) {
    daemon_.in_flight->GiveBack(found->second.user.uid, found->second.descriptors);
  }
  shares_.GiveBack(found->second.user.uid, 1);
  peers_.erase(found);
  daemon_.sessions->Close(id);
  daemon_.cache->EndSession(id);
  --session_count_;
}

}  // namespace weightd::service
