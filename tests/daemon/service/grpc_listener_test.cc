#include "daemon/service/grpc_listener.h"

#include <dirent.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/fd.h"
#include "tests/daemon/service/test_daemon.h"

namespace weightd::service {
namespace {

constexpr const char* kModel = "file:///models/a.safetensors";
constexpr uint32_t kMaxConnections = 16;

int OpenDescriptors() {
  int count = 0;
  DIR* const entries = opendir("/proc/self/fd");
  while (readdir(entries) != nullptr) {
    ++count;
  }
  closedir(entries);
  return count;
}

class GrpcListenerTest : public testing::Test {
 protected:
  GrpcListenerTest() {
    daemon_.Put(kModel);
    daemon_.Listen("default", Access::Everything(), {.max_connections = kMaxConnections});
  }

  Fd Connect() const {
    const std::string path = daemon_.FolderOf("default") + "/weightd.sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    Fd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return client;
  }
  // Whether the daemon ends the connection.
  static bool Ended(const Fd& client) {
    char bytes[4096];
    ssize_t received = 1;
    while (received > 0) {
      received = recv(client.get(), bytes, sizeof(bytes), 0);
    }
    return true;
  }
  bool Serves() const {
    const TestSession session(daemon_.FolderOf("default"));
    const auto weights = daemon_.Weights("default");
    const Acquired acquired = Acquire(*weights, session.token(), kModel);
    EXPECT_TRUE(acquired.status.ok()) << acquired.status.error_message();
    return acquired.status.ok();
  }

  TestDaemon daemon_;
};

TEST_F(GrpcListenerTest, GarbageEndsOnlyItsOwnConnection) {
  for (const std::string& garbage :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(100'000, '\xFF'), std::string(64, '\0'),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + std::string(64, '\xFF')}) {
    const Fd client = Connect();
    send(client.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    shutdown(client.get(), SHUT_WR);
    EXPECT_TRUE(Ended(client));
  }
  EXPECT_TRUE(Serves());
}

TEST_F(GrpcListenerTest, ConnectionsBeyondTheLimitEndAtOnce) {
  std::vector<Fd> clients;
  for (uint32_t i = 0; i < kMaxConnections; ++i) {
    clients.push_back(Connect());
  }
  const Fd refused = Connect();
  EXPECT_TRUE(Ended(refused));
  clients.clear();
  EXPECT_TRUE(Serves());
}

TEST_F(GrpcListenerTest, ConnectionsThatComeAndGoLeaveNothing) {
  ASSERT_TRUE(Serves());
  const int before = OpenDescriptors();
  for (int i = 0; i < 2000; ++i) {
    Connect();
  }
  EXPECT_TRUE(Serves());
  // gRPC closes in its own time.
  for (int i = 0; i < 5000 && OpenDescriptors() > before; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_LE(OpenDescriptors(), before);
}

}  // namespace
}  // namespace weightd::service
