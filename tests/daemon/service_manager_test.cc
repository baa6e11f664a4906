#include "daemon/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/fd.h"

namespace weightd {
namespace {

using ::testing::Eq;
using ::testing::IsNull;
using ::testing::Optional;

constexpr absl::Duration kPatience = absl::Seconds(20);

// The service manager's end.
class Manager {
 public:
  // `name` as in NOTIFY_SOCKET.
  explicit Manager(const std::string& name) : socket_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') {
      address.sun_path[0] = '\0';
    }
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    EXPECT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
  }

  // The next message, or nothing if none comes in time.
  std::optional<std::string> Hear(absl::Duration patience = kPatience) const {
    pollfd ready{socket_.get(), POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) != 1) {
      return std::nullopt;
    }
    std::string message(4096, '\0');
    message.resize(static_cast<size_t>(recv(socket_.get(), message.data(), message.size(), 0)));
    return message;
  }

 private:
  const Fd socket_;
};

class ServiceManagerTest : public ::testing::Test {
 protected:
  ServiceManagerTest() {
    setenv("NOTIFY_SOCKET", path_.c_str(), 1);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
  }

  // Not in the folder that tests are given: a socket's address has 108 bytes.
  const std::string path_ = absl::StrCat("/tmp/weightd-notify-", getpid());
  const std::string abstract_ = absl::StrCat("@weightd-test-", getpid());
};

std::string Idle() { return "idle"; }

TEST_F(ServiceManagerTest, HearsThatWeServeAndThatWeEnd) {
  for (const std::string& name : {path_, abstract_}) {
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    const Manager systemd(name);
    const auto manager = ServiceManager::FromEnvironment();
    const auto heartbeat = manager->Ready(Idle);
    EXPECT_THAT(systemd.Hear(), Optional(Eq("READY=1\nSTATUS=idle")));
    manager->Stopping();
    EXPECT_THAT(systemd.Hear(), Optional(Eq("STOPPING=1\nSTATUS=stopping")));
    unlink(path_.c_str());
  }
}

TEST_F(ServiceManagerTest, HearsSignsOfLifeOnlyWhileTheStateIsAnswered) {
  setenv("NOTIFY_SOCKET", abstract_.c_str(), 1);
  setenv("WATCHDOG_USEC", "20000", 1);
  setenv("WATCHDOG_PID", absl::StrCat(getpid()).c_str(), 1);
  const Manager systemd(abstract_);
  const auto manager = ServiceManager::FromEnvironment();
  int asked = 0;
  absl::Notification stuck;
  absl::Notification free;
  const auto heartbeat = manager->Ready([&] {
    if (++asked == 3) {
      stuck.Notify();
      free.WaitForNotification();
    }
    return absl::StrCat(asked);
  });
  EXPECT_THAT(systemd.Hear(), Optional(Eq("READY=1\nSTATUS=1")));
  EXPECT_THAT(systemd.Hear(), Optional(Eq("WATCHDOG=1\nSTATUS=2")));
  stuck.WaitForNotification();
  EXPECT_EQ(systemd.Hear(absl::Milliseconds(100)), std::nullopt);
  free.Notify();
  EXPECT_THAT(systemd.Hear(), Optional(Eq("WATCHDOG=1\nSTATUS=3")));
}

TEST_F(ServiceManagerTest, HearsNoSignsOfLifeWithoutAWatchdogOfOurs) {
  setenv("NOTIFY_SOCKET", abstract_.c_str(), 1);
  const Manager systemd(abstract_);
  const std::pair<const char*, std::string> not_ours[] = {
      {"1000", absl::StrCat(getppid())}, {"0", ""}, {"-5", ""}, {"soon", ""}};
  for (const auto& [microseconds, pid] : not_ours) {
    setenv("NOTIFY_SOCKET", abstract_.c_str(), 1);
    setenv("WATCHDOG_USEC", microseconds, 1);
    setenv("WATCHDOG_PID", pid.c_str(), 1);
    const auto manager = ServiceManager::FromEnvironment();
    const auto heartbeat = manager->Ready(Idle);
    EXPECT_THAT(systemd.Hear(), Optional(Eq("READY=1\nSTATUS=idle")));
    EXPECT_EQ(systemd.Hear(absl::Milliseconds(20)), std::nullopt) << microseconds;
  }
}

TEST_F(ServiceManagerTest, LeavesNothingForOurProcessesToTakeForTheirs) {
  setenv("WATCHDOG_USEC", "1000", 1);
  setenv("WATCHDOG_PID", "1", 1);
  ServiceManager::FromEnvironment();
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    EXPECT_THAT(getenv(name), IsNull()) << name;
  }
}

TEST_F(ServiceManagerTest, ThatIsMissingOrCannotBeReachedChangesNothing) {
  for (const std::string& name :
       {std::string(), path_, std::string("vsock:2:1"), "/" + std::string(200, 'x')}) {
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    const auto manager = ServiceManager::FromEnvironment();
    manager->Ready(Idle);
    manager->Stopping();
  }
}

}  // namespace
}  // namespace weightd
