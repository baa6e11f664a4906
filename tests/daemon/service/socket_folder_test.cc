#include "daemon/service/socket_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/status.h"

namespace weightd::service {
namespace {

namespace fs = std::filesystem;

class SocketFolderTest : public testing::Test {
 protected:
  SocketFolderTest() {
    std::string name = "/tmp/weightd-folder-XXXXXX";
    root_ = mkdtemp(name.data());
    path_ = absl::StrCat(root_, "/s");
  }
  ~SocketFolderTest() override { fs::remove_all(root_); }

  SocketFolderOptions Options() const {
    SocketFolderOptions options;
    options.path = path_;
    options.patience = absl::Milliseconds(100);
    return options;
  }
  absl::StatusOr<std::unique_ptr<SocketFolder>> Open() {
    return SocketFolder::Open(Options(), cancellation_);
  }
  std::string At(absl::string_view name) const { return absl::StrCat(path_, "/", name); }
  static mode_t ModeOf(const std::string& path) {
    struct stat found{};
    EXPECT_EQ(lstat(path.c_str(), &found), 0) << path;
    return found.st_mode & 07777;
  }
  static Fd ListenAt(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    Fd listening(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listening.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listening.get(), 1), 0);
    return listening;
  }
  static bool Connects(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    const Fd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // EAGAIN: somebody listens whose backlog is full.
    return connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 ||
           errno == EAGAIN;
  }

  std::string root_;
  std::string path_;
  Cancellation cancellation_;
};

TEST_F(SocketFolderTest, CreatesFolderAndSocketsWithTheirModes) {
  const auto folder = Open();
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto listening = (*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0600);
  ASSERT_TRUE(listening.ok()) << listening.status();
  EXPECT_EQ(ModeOf(path_), 0700);
  EXPECT_EQ(ModeOf(At("weightd.sock")), 0600);
  EXPECT_TRUE(Connects(At("weightd.sock")));
}

TEST_F(SocketFolderTest, RemovesOnlyItsOwnSockets) {
  auto folder = Open();
  const Fd ours = *(*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0600);
  const Fd replaced = *(*folder)->Bind(kAdminSocket, SOCK_STREAM, 0600);
  std::ofstream(At("notes.txt")) << "mine";
  fs::remove(At("admin.sock"));
  const Fd foreign = ListenAt(At("admin.sock"));
  folder->reset();
  EXPECT_FALSE(fs::exists(At("weightd.sock")));
  EXPECT_TRUE(fs::exists(At("admin.sock")));
  EXPECT_TRUE(fs::exists(At("notes.txt")));
}

TEST_F(SocketFolderTest, ReplacesStaleSocket) {
  fs::create_directory(path_);
  ListenAt(At("weightd.sock")).Reset();
  ASSERT_TRUE(fs::exists(At("weightd.sock")));
  const auto folder = Open();
  const auto listening = (*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0600);
  ASSERT_TRUE(listening.ok()) << listening.status();
  EXPECT_TRUE(Connects(At("weightd.sock")));
}

TEST_F(SocketFolderTest, NeverReplacesLiveSocket) {
  fs::create_directory(path_);
  const Fd live = ListenAt(At("weightd.sock"));
  const auto folder = Open();
  const auto listening = (*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0600);
  EXPECT_EQ(ReasonOf(listening.status()), Reason::kTooManyRequests);
  EXPECT_TRUE(Connects(At("weightd.sock")));
}

TEST_F(SocketFolderTest, NeverReplacesAFile) {
  fs::create_directory(path_);
  std::ofstream(At("weightd.sock")) << "not a socket";
  const auto folder = Open();
  EXPECT_FALSE((*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0600).ok());
  EXPECT_TRUE(fs::is_regular_file(At("weightd.sock")));
}

TEST_F(SocketFolderTest, GivesUpOnFolderThatALiveDaemonServes) {
  const auto first = Open();
  const Fd handles = *(*first)->Bind(kHandlesSocket, SOCK_SEQPACKET, 0600);
  // What a live daemon does: it greets.
  std::thread greeter([&] {
    Fd client;
    while (!client.valid()) {
      client.Reset(accept(handles.get(), nullptr, nullptr));
    }
    EXPECT_EQ(send(client.get(), "hi", 2, 0), 2);
  });
  const auto second = Open();
  greeter.join();
  EXPECT_EQ(ReasonOf(second.status()), Reason::kTooManyRequests);
}

TEST_F(SocketFolderTest, WaitsForHolderThatDoesNotAnswer) {
  auto first = Open();
  absl::Notification waiting;
  std::string told;
  std::thread ending([&] {
    waiting.WaitForNotification();
    first->reset();
  });
  SocketFolderOptions options = Options();
  options.patience = absl::ZeroDuration();
  options.on_wait = [&](absl::string_view why) {
    told = std::string(why);
    waiting.Notify();
  };
  const auto second = SocketFolder::Open(options, cancellation_);
  ending.join();
  EXPECT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(absl::StrContains(told, path_)) << told;
}

TEST_F(SocketFolderTest, WaitCanBeCancelled) {
  const auto first = Open();
  SocketFolderOptions options = Options();
  options.on_wait = [&](absl::string_view) {
    cancellation_.Cancel(Error(Reason::kShuttingDown, "enough"));
  };
  EXPECT_EQ(ReasonOf(SocketFolder::Open(options, cancellation_).status()), Reason::kShuttingDown);
}

TEST_F(SocketFolderTest, SaysThatAPathIsTooLong) {
  path_ = absl::StrCat(root_, "/", std::string(120, 'x'));
  const absl::Status status = Open().status();
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "107")) << status;
}

TEST_F(SocketFolderTest, RefusesFolderThatOthersMayWriteTo) {
  fs::create_directory(path_);
  std::ofstream(At("somebody's")) << "";
  chmod(path_.c_str(), 01777);
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kNotAllowed);
  EXPECT_EQ(ModeOf(path_), 01777);
}

TEST_F(SocketFolderTest, RefusesFolderThatItsGroupMayWriteTo) {
  fs::create_directory(path_);
  std::ofstream(At("somebody's")) << "";
  chmod(path_.c_str(), 0770);
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kNotAllowed);
}

TEST_F(SocketFolderTest, RefusesFolderOfAnotherUser) {
  fs::create_directory(path_);
  if (chown(path_.c_str(), 1234, 1234) != 0) {
    GTEST_SKIP() << "only root gives folders away";
  }
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kNotAllowed);
}

TEST_F(SocketFolderTest, LeavesTheModeOfAFolderInUseForOtherThings) {
  fs::create_directory(path_);
  std::ofstream(At("somebody's")) << "";
  chmod(path_.c_str(), 0755);
  EXPECT_TRUE(Open().ok());
  EXPECT_EQ(ModeOf(path_), 0755);
}

}  // namespace
}  // namespace weightd::service
