#include "tests/fakes/fake_service_manager.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/fd_passing.h"
#include "daemon/fd_store/keeper_protocol.h"
#include "daemon/fd_store/same_open_file.h"
#include "gtest/gtest.h"

namespace weightd {
namespace {

constexpr int kFirstFd = 3;
// Beyond those that a process of the service is given.
constexpr int kOutOfTheWay = 1000;

std::string NewAddress() {
  static std::atomic<int> count = 0;
  return absl::StrCat("@weightd-manager-", getpid(), "-", ++count);
}

// In the child of a process with threads: calls only what may be called there.
[[noreturn]] void Become(char* const* arguments, char* const* environment, char* pid_text,
                         const std::vector<int>& fds) {
  *std::to_chars(pid_text, pid_text + 20, getpid()).ptr = '\0';
  for (size_t i = 0; i < fds.size(); ++i) {
    fcntl(fds[i], F_DUPFD, kOutOfTheWay + static_cast<int>(i));
  }
  for (size_t i = 0; i < fds.size(); ++i) {
    const int from = kOutOfTheWay + static_cast<int>(i);
    dup2(from, kFirstFd + static_cast<int>(i));
    close(from);
  }
  execve(arguments[0], arguments, environment);
  _exit(127);
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

FakeServiceManager::FakeServiceManager(size_t max_stored)
    : max_stored_(max_stored),
      address_(NewAddress()),
      socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
      stop_(eventfd(0, EFD_CLOEXEC)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  address_.copy(address.sun_path, sizeof(address.sun_path));
  address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  EXPECT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
  thread_ = std::thread([this] { Hear(); });
}

FakeServiceManager::~FakeServiceManager() {
  Listen(true);
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

int FakeServiceManager::Run(const std::vector<std::string>& command, bool before_254) {
  std::vector<int> fds;
  std::vector<std::string> environment = {absl::StrCat("NOTIFY_SOCKET=", address_)};
  {
    absl::MutexLock lock(&mutex_);
    fds.reserve(stored_.size());
    for (const auto& [name, fd] : stored_) {
      fds.push_back(fd.get());
    }
  }
  if (!fds.empty()) {
    environment.push_back(absl::StrCat("LISTEN_FDS=", fds.size()));
    environment.push_back(absl::StrCat("LISTEN_FDNAMES=", absl::StrJoin(names(), ":")));
  }
  if (!before_254) {
    environment.push_back(absl::StrCat("FDSTORE=", max_stored_));
  }
  environment.push_back("LISTEN_PID=" + std::string(20, '\0'));
  const std::vector<char*> arguments = Pointers(command);
  const std::vector<char*> variables = Pointers(environment);
  const pid_t child = fork();
  if (child == 0) {
    Become(arguments.data(), variables.data(), environment.back().data() + 11, fds);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

std::vector<std::string> FakeServiceManager::names() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> names;
  names.reserve(stored_.size());
  for (const auto& [name, fd] : stored_) {
    names.push_back(name);
  }
  return names;
}

void FakeServiceManager::Listen(bool listens) {
  absl::MutexLock lock(&mutex_);
  listens_ = listens;
}

void FakeServiceManager::Hear() {
  while (true) {
    pollfd waits[] = {{stop_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
    poll(waits, 2, -1);
    if (waits[0].revents != 0) {
      return;
    }
    {
      absl::MutexLock lock(&mutex_, absl::Condition(&listens_));
    }
    absl::StatusOr<Packet> packet = ReceivePacket(socket_.get(), true);
    if (packet.ok()) {
      Take(packet->bytes, std::move(packet->fds));
    }
  }
}

void FakeServiceManager::Take(absl::string_view message, std::vector<Fd> fds) {
  const std::string text(message);
  const std::string name(fd_store::FieldOf(text, "FDNAME").value_or("stored"));
  absl::MutexLock lock(&mutex_);
  if (fd_store::Says(text, "FDSTOREREMOVE")) {
    stored_.erase(std::remove_if(stored_.begin(), stored_.end(),
                                 [&name](const auto& stored) { return stored.first == name; }),
                  stored_.end());
  } else if (fd_store::Says(text, "FDSTORE")) {
    // Memory can't be polled; systemd would forget what it polls at once.
    EXPECT_EQ(fd_store::FieldOf(text, "FDPOLL"), "0");
    for (Fd& fd : fds) {
      Put(name, std::move(fd));
    }
  }
  // Whatever else came with descriptors, such as a barrier, ends with them.
}

void FakeServiceManager::Put(absl::string_view name, Fd fd) {
  const bool there = std::any_of(stored_.begin(), stored_.end(), [&fd](const auto& stored) {
    return fd_store::IsSameOpenFile(stored.second.get(), fd.get());
  });
  if (!there && stored_.size() < max_stored_) {
    stored_.emplace_back(std::string(name), std::move(fd));
  }
}

}  // namespace weightd
