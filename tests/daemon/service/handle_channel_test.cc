#include "daemon/service/handle_channel.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/fd_passing.h"
#include "tests/daemon/service/test_daemon.h"

namespace weightd::service {
namespace {

constexpr const char* kModel = "file:///models/a.safetensors";

int OpenDescriptors() {
  int count = 0;
  DIR* const entries = opendir("/proc/self/fd");
  while (readdir(entries) != nullptr) {
    ++count;
  }
  closedir(entries);
  return count;
}

class HandleChannelTest : public testing::Test {
 protected:
  HandleChannelTest() {
    daemon_.Put(kModel);
    daemon_.Listen("default", Access::Everything(), {.max_sessions = 64});
    weights_ = daemon_.Weights("default");
  }

  std::string Folder() const { return daemon_.FolderOf("default"); }
  uint64_t Lease(const TestSession& session) {
    const Acquired acquired = Acquire(*weights_, session.token(), kModel);
    EXPECT_TRUE(acquired.status.ok()) << acquired.status.error_message();
    return acquired.lease;
  }

  TestDaemon daemon_;
  std::unique_ptr<v1::Weights::Stub> weights_;
};

TEST_F(HandleChannelTest, GreetsWithAToken) {
  const TestSession session(Folder());
  EXPECT_EQ(session.token().size(), 32);
  EXPECT_EQ(session.greeting().hello().protocol_version(), 1);
}

TEST_F(HandleChannelTest, AnswersAClaimWithReadOnlyDescriptors) {
  const TestSession session(Folder());
  const uint64_t lease = Lease(session);
  session.SendClaim(lease);
  const TestSession::Answer answer = session.Receive();
  ASSERT_EQ(answer.fds.size(), 2);
  const v1::Handles& handles = answer.reply.handles();
  EXPECT_EQ(handles.lease_id(), lease);
  EXPECT_EQ(handles.handles(0).kind(), v1::Handle::HOST_SEGMENT);
  EXPECT_EQ(handles.handles(1).kind(), v1::Handle::TENSOR_INDEX);
  for (const Fd& fd : answer.fds) {
    EXPECT_EQ(fcntl(fd.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  }
  struct stat file{};
  EXPECT_EQ(fstat(answer.fds[0].get(), &file), 0);
  EXPECT_EQ(static_cast<uint64_t>(file.st_size), handles.handles(0).nbytes());
}

TEST_F(HandleChannelTest, RefusesALeaseOfAnotherSession) {
  const TestSession owner(Folder());
  const TestSession thief(Folder());
  const uint64_t lease = Lease(owner);
  thief.SendClaim(lease);
  const TestSession::Answer answer = thief.Receive();
  EXPECT_TRUE(answer.fds.empty());
  EXPECT_EQ(answer.reply.failed().lease_id(), lease);
  EXPECT_EQ(answer.reply.failed().error().reason(), v1::LEASE_UNKNOWN);
}

TEST_F(HandleChannelTest, TheConnectionsEndEndsTheLeases) {
  TestSession session(Folder());
  Lease(session);
  Lease(session);
  EXPECT_EQ(daemon_.cache->Leases().size(), 2);
  session.End();
  EXPECT_TRUE(daemon_.AwaitNoLeases());
}

TEST_F(HandleChannelTest, GarbageEndsOnlyItsOwnSession) {
  const TestSession good(Folder());
  const uint64_t lease = Lease(good);
  for (const std::string& garbage :
       {std::string("\xFF\xFF\xFF"), std::string(kMaxPacketBytes, 'x'), std::string(1, '\0')}) {
    const TestSession bad(Folder());
    bad.Send(garbage);
    EXPECT_EQ(bad.Receive().reply.failed().error().reason(), v1::INVALID_ARGUMENT);
    EXPECT_TRUE(bad.Receive().ended);
  }
  good.SendClaim(lease);
  EXPECT_EQ(good.Receive().fds.size(), 2);
}

TEST_F(HandleChannelTest, ClientThatDoesNotReadGetsOneAnswerAndHurtsNobody) {
  const TestSession silent(Folder());
  const uint64_t lease = Lease(silent);
  int sent = 0;
  v1::HandleRequest request;
  request.mutable_claim()->set_lease_id(lease);
  // Until its own socket is full.
  while (sent < 342 && SendPacket(silent.socket(), request.SerializeAsString()).ok()) {
    ++sent;
  }
  const TestSession good(Folder());
  for (int i = 0; i < 100; ++i) {
    good.SendClaim(Lease(good));
    ASSERT_EQ(good.Receive().fds.size(), 2);
  }
  // Once it reads, each claim is answered in turn.
  for (int i = 0; i < sent; ++i) {
    ASSERT_EQ(silent.Receive().fds.size(), 2) << i;
  }
}

TEST_F(HandleChannelTest, LimitsDescriptorsInFlight) {
  daemon_.in_flight->TryTake(getuid(), 499);
  const TestSession session(Folder());
  session.SendClaim(Lease(session));
  EXPECT_EQ(session.Receive().reply.failed().error().reason(), v1::TOO_MANY_REQUESTS);
  daemon_.in_flight->GiveBack(getuid(), 499);
  session.SendClaim(Lease(session));
  EXPECT_EQ(session.Receive().fds.size(), 2);
}

TEST_F(HandleChannelTest, RefusesSessionsBeyondTheLimitInWords) {
  std::vector<std::unique_ptr<TestSession>> sessions;
  for (int i = 0; i < 64; ++i) {
    sessions.push_back(std::make_unique<TestSession>(Folder()));
    EXPECT_TRUE(sessions.back()->greeting().has_hello());
  }
  const TestSession refused(Folder());
  EXPECT_EQ(refused.greeting().failed().error().reason(), v1::TOO_MANY_REQUESTS);
  EXPECT_TRUE(refused.Receive().ended);
  EXPECT_EQ(daemon_.listener().sessions(), 64);
}

TEST_F(HandleChannelTest, KeepsNoDescriptorThatIsSentToIt) {
  const TestSession session(Folder());
  const uint64_t lease = Lease(session);
  const int before = OpenDescriptors();
  v1::HandleRequest request;
  request.mutable_claim()->set_lease_id(lease);
  const std::vector<int> fds(16, session.socket());
  for (int i = 0; i < 20; ++i) {
    // Since Linux 6.16 the kernel refuses it; else they are taken, and closed.
    if (!SendPacket(session.socket(), request.SerializeAsString(), fds).ok()) {
      ASSERT_TRUE(SendPacket(session.socket(), request.SerializeAsString(), {}).ok());
    }
    ASSERT_EQ(session.Receive().fds.size(), 2);
  }
  // The daemon closes its own copies of the last answer after the client has it.
  for (int i = 0; i < 5000 && OpenDescriptors() > before; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_LE(OpenDescriptors(), before);
}

}  // namespace
}  // namespace weightd::service
