#include "daemon/device/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/device/worker_messages.h"

namespace weightd::device {
namespace {

// How long a killed process may take: it frees its memory of the GPU meanwhile.
constexpr absl::Duration kDeath = absl::Seconds(10);

bool IsForWorkers(absl::string_view variable) {
  static constexpr std::array<absl::string_view, 12> kPrefixes = {
      "CUDA_", "NVIDIA_", "FAKE_CUDA", "LD_",   "ASAN_",   "LSAN_",
      "TSAN_", "UBSAN_",  "PATH=",     "HOME=", "TMPDIR=", "TEST_TMPDIR="};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(), [variable](absl::string_view prefix) {
    return absl::StartsWith(variable, prefix);
  });
}

std::vector<char*> EnvironmentForWorkers() {
  std::vector<char*> kept;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (IsForWorkers(*variable)) {
      kept.push_back(*variable);
    }
  }
  kept.push_back(nullptr);
  return kept;
}

// posix_spawn's two objects, which are to be destroyed.
class SpawnSettings {
 public:
  explicit SpawnSettings(int socket) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions_, socket, kWorkerSocket);
    posix_spawn_file_actions_addclosefrom_np(&actions_, kWorkerSocket + 1);
    posix_spawnattr_init(&attributes_);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK);
  }
  ~SpawnSettings() {
    posix_spawnattr_destroy(&attributes_);
    posix_spawn_file_actions_destroy(&actions_);
  }
  SpawnSettings(const SpawnSettings&) = delete;

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

}  // namespace

absl::StatusOr<WorkerProcess> WorkerProcess::Start(const std::vector<std::string>& command,
                                                   const std::string& name,
                                                   const std::vector<std::string>& arguments) {
  std::array<int, 2> ends = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return ErrnoError(errno, "create a socket for a GPU worker");
  }
  Fd ours(ends[0]);
  Fd theirs(ends[1]);
  fcntl(ours.get(), F_SETFL, O_NONBLOCK);

  // The program that runs, also after its file was replaced.
  const std::string program = command.empty() ? "/proc/self/exe" : command.front();
  std::vector<std::string> line = {name};
  line.insert(line.end(), command.empty() ? command.end() : command.begin() + 1, command.end());
  line.emplace_back("--gpu-worker");
  line.insert(line.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(line.size() + 1);
  for (std::string& argument : line) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);

  const SpawnSettings settings(theirs.get());
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, program.c_str(), settings.actions(), settings.attributes(),
                                 argv.data(), EnvironmentForWorkers().data());
  if (failed != 0) {
    return Annotate(Error(Reason::kDeviceUnavailable, ErrnoError(failed, program).message()),
                    "start a GPU worker");
  }
  WorkerProcess process(pid, Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))),
                        std::move(ours));
  if (!process.pidfd_.valid()) {
    return ErrnoError(errno, "watch a GPU worker");
  }
  return process;
}

WorkerProcess::~WorkerProcess() {
  if (pid_ != 0 && !reaped_) {
    Kill();
    WaitFor(kDeath);
  }
}

void WorkerProcess::HangUp() { shutdown(socket_.get(), SHUT_WR); }

void WorkerProcess::Kill() {
  if (!reaped_) {
    kill(pid_, SIGKILL);
  }
}

bool WorkerProcess::WaitFor(absl::Duration duration) {
  if (reaped_) {
    return true;
  }
  const absl::Time deadline = absl::Now() + duration;
  if (pidfd_.valid()) {
    pollfd ended{pidfd_.get(), POLLIN, 0};
    int ready = 0;
    do {
      const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
      ready = poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(left)));
    } while (ready < 0 && errno == EINTR);
  }
  int status = 0;
  if (waitpid(pid_, &status, pidfd_.valid() ? WNOHANG : 0) == 0) {
    return false;
  }
  reaped_ = true;
  how_it_ended_ = WIFSIGNALED(status) ? absl::StrCat("was killed by signal ", WTERMSIG(status))
                                      : absl::StrCat("ended with code ", WEXITSTATUS(status));
  return true;
}

}  // namespace weightd::device
