#include "tests/servers/keeper_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace weightd {
namespace {

constexpr int kPatienceMs = 20000;

// Not in the folder that tests are given: a socket's address has 108 bytes.
std::string NewPlace() {
  std::string place = "/tmp/weightd-keeper-XXXXXX";
  EXPECT_NE(mkdtemp(place.data()), nullptr);
  return place;
}

pid_t Launch(const std::vector<std::string>& command, std::optional<rlim_t> max_files) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (max_files.has_value()) {
      const rlimit limit{*max_files, *max_files};
      setrlimit(RLIMIT_NOFILE, &limit);
    }
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  EXPECT_GT(child, 0);
  return child;
}

int EndOf(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool SendTo(int socket, absl::string_view text, const std::vector<int>& fds) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) >= 0;
}

// As FakeKeeper says.
void Recite(const Fd& listener, const std::vector<std::string>& script) {
  const Fd file = FileWith("not yours");
  for (const std::string& line : script) {
    std::vector<int> fds;
    std::string text = line;
    if (!line.empty() && line[0] == '+') {
      fds.resize(static_cast<size_t>(std::atoi(line.c_str() + 1)), file.get());
      text = line.substr(line.find(' ') + 1);
    }
    if (text.empty() || !SendTo(listener.get(), text, fds)) {
      return;
    }
  }
  char byte = 0;
  while (recv(listener.get(), &byte, 1, 0) > 0) {
  }
}

}  // namespace

int RunToEnd(const std::vector<std::string>& command) {
  return EndOf(Launch(command, std::nullopt));
}

KeeperProcess::KeeperProcess(std::optional<rlim_t> max_files)
    : place_(NewPlace()), folder_(place_ + "/keeper"), max_files_(max_files) {
  Start();
}

KeeperProcess::~KeeperProcess() {
  if (pid_ != 0) {
    Kill();
  }
  std::filesystem::remove_all(place_);
}

void KeeperProcess::Start() {
  pid_ = Launch({kKeeperProgram, "--dir", folder_}, max_files_);
  const absl::Time give_up = absl::Now() + absl::Milliseconds(kPatienceMs);
  while (!RawPeer(socket()).connected()) {
    ASSERT_LT(absl::Now(), give_up);
    ASSERT_EQ(waitpid(pid_, nullptr, WNOHANG), 0) << "it ended";
    absl::SleepFor(absl::Milliseconds(2));
  }
}

void KeeperProcess::Kill() {
  kill(pid_, SIGKILL);
  EXPECT_EQ(EndOf(std::exchange(pid_, 0)), -SIGKILL);
}

pid_t KeeperProcess::Abandon() { return std::exchange(pid_, 0); }

int KeeperProcess::Stop() {
  kill(pid_, SIGTERM);
  return EndOf(std::exchange(pid_, 0));
}

void KeeperProcess::Freeze() const {
  kill(pid_, SIGSTOP);
  waitpid(pid_, nullptr, WUNTRACED);
}

void KeeperProcess::Thaw() const { kill(pid_, SIGCONT); }

std::string KeeperProcess::socket() const { return folder_ + "/keeper.sock"; }

RawPeer::RawPeer(const std::string& path)
    : socket_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    socket_.Reset();
  }
}

bool RawPeer::Say(absl::string_view text, const std::vector<int>& fds) const {
  return SendTo(socket_.get(), text, fds);
}

Packet RawPeer::Hear() const {
  pollfd ready{socket_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&ready, 1, kPatienceMs), 1) << "nothing came";
  absl::StatusOr<Packet> packet = ReceivePacket(socket_.get(), true);
  return packet.ok() ? *std::move(packet) : Packet{};
}

std::string RawPeer::Ask(absl::string_view text, const std::vector<int>& fds) const {
  EXPECT_TRUE(Say(text, fds));
  return Hear().bytes;
}

FakeKeeper::FakeKeeper(const std::string& path, std::vector<std::string> script, uid_t user)
    : path_(path) {
  const Fd listening(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  unlink(path.c_str());
  EXPECT_EQ(bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  Pipe listens;
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if ((user != geteuid() && setresuid(user, user, user) != 0) ||
        listen(listening.get(), 10) != 0) {
      _exit(1);
    }
    listens.write.Reset();
    while (true) {
      Recite(Fd(accept(listening.get(), nullptr, nullptr)), script);
    }
  }
  EXPECT_TRUE(listens.Abandoned());
}

FakeKeeper::~FakeKeeper() {
  kill(pid_, SIGKILL);
  EndOf(pid_);
  unlink(path_.c_str());
}

Fd FileWith(absl::string_view text) {
  Fd file(memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  return file;
}

std::string TextOf(const Fd& file) {
  std::string text(4096, '\0');
  text.resize(
      static_cast<size_t>(std::max<ssize_t>(pread(file.get(), text.data(), text.size(), 0), 0)));
  return text;
}

Pipe::Pipe() {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  read.Reset(ends[0]);
  write.Reset(ends[1]);
}

bool Pipe::Abandoned() {
  write.Reset();
  pollfd end{read.get(), 0, 0};
  return poll(&end, 1, kPatienceMs) == 1 && (end.revents & POLLHUP) != 0;
}

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

}  // namespace weightd
