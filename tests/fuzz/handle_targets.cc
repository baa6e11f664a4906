#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/fd_passing.h"
#include "common/uri.h"
#include "daemon/cache/cache.h"
#include "daemon/host/host_tier.h"
#include "daemon/service/call_observers.h"
#include "daemon/service/handle_channel.h"
#include "daemon/service/sessions.h"
#include "daemon/service/user_shares.h"
#include "tests/fakes/fake_loader.h"
#include "tests/fuzz/targets.h"
#include "weightd/v1/handles.pb.h"

namespace weightd::fuzz {
namespace {

constexpr char kListener[] = "fuzzed";
constexpr uint64_t kModelBytes = 4096;
constexpr int kDescriptors = 1000;

// A listening socket whose name the kernel chose (unix(7), autobind).
Fd Listen(sockaddr_un& address, socklen_t& size) {
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  address.sun_family = AF_UNIX;
  size = sizeof(address);
  Require(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)) == 0 &&
              listen(socket.get(), 16) == 0 &&
              getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0,
          "a socket can listen");
  return socket;
}

// The real channel over a real cache with one resident model. Lives as long as the process.
class Channel {
 public:
  static Channel& Get() {
    static Channel* const channel = new Channel();
    return *channel;
  }

  Fd Connect() const {
    Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    Require(connect(socket.get(), reinterpret_cast<const sockaddr*>(&address_), size_) == 0,
            "the channel listens");
    return socket;
  }

  // A lease on the model for the session with that token.
  uint64_t Lease(const std::string& token) {
    const auto session = sessions_.Find(token, kListener, getuid());
    Require(session.ok(), "a token is good for its session");
    uint64_t lease = 0;
    absl::Notification granted;
    cache::AcquireRequest request;
    request.uri = uri_;
    request.holder = {*session, kListener, getuid()};
    const auto wait =
        cache_->Acquire(request, {.progress = [](const cache::ProgressSnapshot&) {},
                                  .done =
                                      [&](absl::StatusOr<cache::Grant> grant) {
                                        Require(grant.ok(), "a resident model is granted");
                                        lease = grant->lease.value();
                                        granted.Notify();
                                      }});
    granted.WaitForNotification();
    return lease;
  }

 private:
  Channel()
      : uri_(*Uri::Parse("file:///model")),
        budget_(kDescriptors, service::UserShares::Users::kSeveral) {
    host::HostTierOptions tier;
    tier.budget = 64 << 20;
    cache::CacheOptions options;
    options.revalidate = absl::InfiniteDuration();
    loader_.Put(uri_, 1, kModelBytes);
    cache_ = cache::Cache::Create(options, std::make_shared<host::HostTier>(tier), &loader_);
    absl::Notification loaded;
    const auto wait = cache_->Preload({.uri = uri_, .policy = {}, .pin = true},
                                      {.progress = [](const cache::ProgressSnapshot&) {},
                                       .done =
                                           [&](const absl::StatusOr<cache::ModelSnapshot>& model) {
                                             Require(model.ok(), "the model loads");
                                             loaded.Notify();
                                           }});
    loaded.WaitForNotification();
    auto channel = service::HandleChannel::Start(Listen(address_, size_), {.listener = kListener},
                                                 {&sessions_, cache_.get(), &budget_, &observers_});
    Require(channel.ok(), "the channel starts");
    channel_ = *std::move(channel);
  }

  const Uri uri_;
  sockaddr_un address_ = {};
  socklen_t size_ = 0;
  fakes::FakeLoader loader_;
  std::unique_ptr<cache::Cache> cache_;
  service::Sessions sessions_;
  service::UserShares budget_;
  service::CallObservers observers_;
  std::unique_ptr<service::HandleChannel> channel_;
};

v1::HandleReply ParseReply(const Packet& packet) {
  v1::HandleReply reply;
  Require(reply.ParseFromString(packet.bytes), "the daemon sends replies");
  return reply;
}

// Sends the packets of `input`; length 0 stands for a claim of `lease`, the length's top bit for a
// descriptor beside it. Stops when the daemon takes no more.
void SendAll(int socket, absl::string_view input, uint64_t lease) {
  v1::HandleRequest claim;
  claim.mutable_claim()->set_lease_id(lease);
  const std::string claim_bytes = claim.SerializeAsString();
  bool taken = true;
  while (taken && !input.empty()) {
    const size_t length = static_cast<unsigned char>(input[0]) & 0x7F;
    const bool with_fd = (static_cast<unsigned char>(input[0]) & 0x80) != 0;
    input.remove_prefix(1);
    const absl::string_view packet = length == 0 ? claim_bytes : input.substr(0, length);
    input.remove_prefix(std::min(length, input.size()));
    const int descriptors[] = {socket};
    taken = packet.empty() ||
            SendPacket(socket, packet, absl::MakeSpan(descriptors, with_fd ? 1 : 0)).ok();
  }
}

}  // namespace

void HandleFrames(absl::string_view input) {
  const Fd socket = Channel::Get().Connect();
  auto packet = ReceivePacket(socket.get(), /*accept_fds=*/true);
  Require(packet.ok() && ParseReply(*packet).has_hello(), "a session begins with a greeting");
  const uint64_t lease = Channel::Get().Lease(ParseReply(*packet).hello().session_token());
  SendAll(socket.get(), input, lease);
  shutdown(socket.get(), SHUT_WR);
  // The daemon ends the session once it has answered; a reset is such an end.
  for (packet = ReceivePacket(socket.get(), true); packet.ok() && !packet->bytes.empty();
       packet = ReceivePacket(socket.get(), true)) {
    const v1::HandleReply reply = ParseReply(*packet);
    Require(reply.has_handles() || reply.has_failed(), "a request is answered or refused");
    Require(static_cast<size_t>(reply.handles().handles_size()) == packet->fds.size(),
            "each handle comes with its descriptor");
  }
}

}  // namespace weightd::fuzz
