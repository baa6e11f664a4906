#include "common/fd_passing.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "absl/time/time.h"
#include "common/status.h"
#include "common/uptime.h"

namespace weightd {
namespace {

struct SocketPair {
  SocketPair() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    ours = Fd(fds[0]);
    theirs = Fd(fds[1]);
  }
  Fd ours;
  Fd theirs;
};

int OpenDescriptors() {
  int count = 0;
  DIR* dir = opendir("/proc/self/fd");
  while (readdir(dir) != nullptr) {
    ++count;
  }
  closedir(dir);
  return count;
}

TEST(FdPassingTest, BytesAndDescriptorsArrive) {
  SocketPair pair;
  Fd memfd(memfd_create("x", MFD_CLOEXEC));
  ASSERT_EQ(write(memfd.get(), "abc", 3), 3);
  ASSERT_TRUE(SendPacket(pair.ours.get(), "hello", {memfd.get()}).ok());
  absl::StatusOr<Packet> packet = ReceivePacket(pair.theirs.get(), /*accept_fds=*/true);
  ASSERT_TRUE(packet.ok());
  EXPECT_EQ(packet->bytes, "hello");
  ASSERT_EQ(packet->fds.size(), 1);
  char bytes[3];
  EXPECT_EQ(pread(packet->fds[0].get(), bytes, 3, 0), 3);
  EXPECT_EQ(std::string(bytes, 3), "abc");
}

TEST(FdPassingTest, UnwantedDescriptorsAreNotKept) {
  SocketPair pair;
  const int before = OpenDescriptors();
  ASSERT_TRUE(SendPacket(pair.ours.get(), "x", {0, 0, 0}).ok());
  absl::StatusOr<Packet> packet = ReceivePacket(pair.theirs.get(), /*accept_fds=*/false);
  ASSERT_TRUE(packet.ok());
  EXPECT_EQ(packet->bytes, "x");
  // They are closed on another thread.
  for (int i = 0; i < 5000 && OpenDescriptors() > before; ++i) {
    usleep(1000);
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(FdPassingTest, ASocketThatLingersIsNotWaitedFor) {
  SocketPair pair;
  const Fd listening(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(listening.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(listening.get(), 1), 0);
  ASSERT_EQ(getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  Fd lingering(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  constexpr linger kLong{1, 20};
  ASSERT_EQ(setsockopt(lingering.get(), SOL_SOCKET, SO_LINGER, &kLong, sizeof(kLong)), 0);
  ASSERT_EQ(connect(lingering.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  const std::string bytes(64 << 10, 'x');
  while (send(lingering.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
  }
  ASSERT_TRUE(SendPacket(pair.ours.get(), "x", {lingering.get()}).ok());
  lingering.Reset();
  const absl::Duration before = Uptime();
  ASSERT_TRUE(ReceivePacket(pair.theirs.get(), /*accept_fds=*/false).ok());
  EXPECT_LT(Uptime() - before, absl::Seconds(5));
}

TEST(FdPassingTest, OversizedPacketsAreRefused) {
  SocketPair pair;
  EXPECT_FALSE(SendPacket(pair.ours.get(), std::string(kMaxPacketBytes + 1, 'x')).ok());
  const std::string large(kMaxPacketBytes + 100, 'x');
  ASSERT_EQ(send(pair.ours.get(), large.data(), large.size(), 0),
            static_cast<ssize_t>(large.size()));
  EXPECT_EQ(ReasonOf(ReceivePacket(pair.theirs.get(), false).status()), Reason::kInvalidArgument);
}

TEST(FdPassingTest, EndOfConnectionIsAnEmptyPacket) {
  SocketPair pair;
  pair.ours.Reset();
  absl::StatusOr<Packet> packet = ReceivePacket(pair.theirs.get(), false);
  ASSERT_TRUE(packet.ok());
  EXPECT_TRUE(packet->bytes.empty());
  EXPECT_FALSE(SendPacket(pair.theirs.get(), "x").ok());
}

}  // namespace
}  // namespace weightd
