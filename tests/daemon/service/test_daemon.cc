#include "tests/daemon/service/test_daemon.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/fd_passing.h"
#include "common/status.h"
#include "daemon/host/host_tier.h"
#include "daemon/service/card_codec.h"

namespace weightd::service {
namespace {

constexpr uint64_t kBudget = 64 << 20;
constexpr uint64_t kModelBytes = 64 << 10;
constexpr int kPatienceMs = 5000;

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& path) {
  grpc::ChannelArguments arguments;
  // Each stub its own connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("unix:", path), grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace

TestDaemon::TestDaemon(const WrapCache& wrap, fd_store::FdStore* fd_store)
    : in_flight(std::make_unique<UserShares>(1000, UserShares::Users::kSeveral)) {
  root_ = "/tmp/weightd-service-XXXXXX";
  EXPECT_NE(mkdtemp(root_.data()), nullptr);
  host::HostTierOptions tier;
  tier.budget = kBudget;
  cache = cache::Cache::Create({.fd_store = fd_store, .encode_card = EncodeCard},
                               std::make_shared<host::HostTier>(tier), &loader);
  if (wrap != nullptr) {
    cache = wrap(std::move(cache));
  }
  AdminService::Daemon daemon{
      cache.get(),
      &names,
      [this] {
        std::vector<v1::ListenerStatus> statuses(listeners_.size());
        for (size_t i = 0; i < listeners_.size(); ++i) {
          statuses[i].set_name(listeners_[i]->options().name);
          statuses[i].set_sessions(listeners_[i]->sessions());
        }
        return statuses;
      },
      absl::Now(),
      &admin_peers_,
      &observers,
      {.current = [this] { return log_level; },
       .change = [this](const std::string& level) -> absl::StatusOr<std::string> {
         if (level.empty()) {
           return Error(Reason::kInvalidArgument, "no level");
         }
         return std::exchange(log_level, level);
       }}};
  if (fd_store != nullptr) {
    daemon.keeper = [] {
      v1::KeeperStatus keeper;
      keeper.set_reachable(true);
      return keeper;
    };
  }
  admin_service_ = std::make_unique<AdminService>(std::move(daemon));
  auto folder = SocketFolder::Open({.path = root_ + "/admin"}, cancellation_);
  EXPECT_TRUE(folder.ok()) << folder.status();
  admin_ =
      *GrpcListener::Start(*(*folder)->Bind(kAdminSocket, SOCK_STREAM, 0600), {.connections = 16},
                           admin_service_.get(), {kAdminListener, &admin_peers_, &observers});
  folders_.push_back(*std::move(folder));
}

TestDaemon::~TestDaemon() {
  admin_.reset();
  listeners_.clear();
  cache.reset();
  folders_.clear();
  std::filesystem::remove_all(root_);
}

void TestDaemon::Listen(const std::string& name, Access access, ClientListenerOptions options) {
  auto folder = SocketFolder::Open({.path = FolderOf(name)}, cancellation_);
  ASSERT_TRUE(folder.ok()) << folder.status();
  options.name = name;
  options.directory = FolderOf(name);
  auto listener = ClientListener::Start(
      *(*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0600),
      *(*folder)->Bind(kHandlesSocket, SOCK_SEQPACKET, 0600), std::move(access), std::move(options),
      {cache.get(), &sessions, &names, in_flight.get(), &observers});
  ASSERT_TRUE(listener.ok()) << listener.status();
  listeners_.push_back(*std::move(listener));
  folders_.push_back(*std::move(folder));
}

void TestDaemon::Put(absl::string_view uri) { loader.Put(*Uri::Parse(uri), 1, kModelBytes); }

bool TestDaemon::AwaitNoLeases() {
  const absl::Time deadline = absl::Now() + absl::Milliseconds(kPatienceMs);
  while (!cache->Leases().empty()) {
    if (absl::Now() > deadline) {
      return false;
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

std::unique_ptr<v1::Weights::Stub> TestDaemon::Weights(const std::string& listener) const {
  return v1::Weights::NewStub(ChannelTo(FolderOf(listener) + "/weightd.sock"));
}

std::unique_ptr<v1::Admin::Stub> TestDaemon::Admin() const {
  return v1::Admin::NewStub(ChannelTo(root_ + "/admin/admin.sock"));
}

TestSession::TestSession(const std::string& folder)
    : socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
  const std::string path = folder + "/handles.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  greeting_ = Receive().reply;
  token_ = greeting_.hello().session_token();
}

void TestSession::Send(absl::string_view bytes) const {
  EXPECT_TRUE(SendPacket(socket_.get(), bytes).ok());
}

void TestSession::SendClaim(uint64_t lease) const {
  v1::HandleRequest request;
  request.mutable_claim()->set_lease_id(lease);
  Send(request.SerializeAsString());
}

TestSession::Answer TestSession::Receive() const {
  pollfd ready{socket_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&ready, 1, kPatienceMs), 1) << "no answer";
  Answer answer;
  absl::StatusOr<Packet> packet = ReceivePacket(socket_.get(), /*accept_fds=*/true);
  answer.ended = !packet.ok() || packet->bytes.empty();
  if (!answer.ended) {
    EXPECT_TRUE(answer.reply.ParseFromString(packet->bytes));
    answer.fds = std::move(packet->fds);
  }
  return answer;
}

v1::ErrorDetail DetailOf(const grpc::ClientContext& context) {
  v1::ErrorDetail detail;
  const auto& trailing = context.GetServerTrailingMetadata();
  const auto found = trailing.find("weightd-error-bin");
  if (found != trailing.end()) {
    detail.ParseFromArray(found->second.data(), static_cast<int>(found->second.size()));
  }
  return detail;
}

Acquired Acquire(v1::Weights::Stub& weights, const std::string& token, const std::string& model,
                 bool resident_only) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(kPatienceMs));
  // gRPC takes a connection that the full backlog of a busy listener refused for a made one, and
  // tries again a second after it failed.
  context.set_wait_for_ready(true);
  context.AddMetadata("weightd-session", token);
  v1::AcquireRequest request;
  request.set_model(model);
  request.set_resident_only(resident_only);
  const auto stream = weights.Acquire(&context, request);
  Acquired acquired;
  v1::AcquireResponse response;
  while (stream->Read(&response)) {
    acquired.lease = response.grant().lease_id();
  }
  acquired.status = stream->Finish();
  acquired.detail = DetailOf(context);
  return acquired;
}

}  // namespace weightd::service
