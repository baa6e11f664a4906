#include "daemon/source/credentials/credential_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_document.h"

namespace weightd::source {
namespace {

constexpr size_t kMostOutput = 64 << 10;
constexpr std::chrono::seconds kPatience(60);
// How long a cancellation may go unnoticed.
constexpr int kTickMilliseconds = 50;

// A shell in a process group of its own, which ends with this object at the latest.
class Shell {
 public:
  explicit Shell(const std::string& command) {
    std::array<int, 2> ends = {};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) {
      return;
    }
    output_ = Fd(ends[0]);
    const Fd write_end(ends[1]);
    // Ours, not the program's.
    fcntl(output_.get(), F_SETFL, O_NONBLOCK);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    const char* const arguments[] = {"sh", "-c", command.c_str(), nullptr};
    if (posix_spawn(&pid_, "/bin/sh", &actions, &attributes, const_cast<char* const*>(arguments),
                    environ) != 0) {
      pid_ = -1;
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (pid_ > 0) {
      ended_ = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    }
  }

  ~Shell() {
    if (pid_ > 0) {
      Wait();
    }
  }
  Shell(const Shell&) = delete;

  bool started() const { return ended_.valid(); }

  // Waits a while for output or the end. False if it has ended and all it printed is read.
  bool Advance() {
    std::array<pollfd, 2> polls = {pollfd{ended_.get(), POLLIN, 0},
                                   pollfd{output_closed_ ? -1 : output_.get(), POLLIN, 0}};
    poll(polls.data(), polls.size(), kTickMilliseconds);
    const bool ended = polls[0].revents != 0;
    return TakeOutput() || !ended;
  }

  const std::string& text() const { return text_; }

  // Kills what still runs. True if the shell ended well by itself.
  bool Wait() {
    kill(-pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

 private:
  // False if there was none.
  bool TakeOutput() {
    std::array<char, 4096> buffer;
    const ssize_t bytes = read(output_.get(), buffer.data(), buffer.size());
    output_closed_ = bytes == 0;
    if (bytes > 0) {
      text_.append(buffer.data(), bytes);
    }
    return bytes > 0;
  }

  pid_t pid_ = -1;
  Fd output_;
  bool output_closed_ = false;
  // Readable when it has ended.
  Fd ended_;
  std::string text_;
};

absl::Status Failed(absl::string_view kind, absl::string_view what) {
  return Error(Reason::kSourceDenied, absl::StrCat(kind, " ", what),
               "run it by hand as the daemon's user");
}

}  // namespace

absl::StatusOr<Credentials> RunCredentialProcess(const std::string& command, absl::string_view kind,
                                                 Cancellation& cancellation) {
  Shell shell(command);
  if (!shell.started()) {
    return Failed(kind, "can't be started");
  }
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (shell.Advance()) {
    RETURN_IF_ERROR(cancellation.status());
    if (shell.text().size() > kMostOutput) {
      return Failed(kind, absl::StrCat("prints more than ", kMostOutput, " bytes"));
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return Failed(kind, "doesn't end");
    }
  }
  if (!shell.Wait()) {
    return Failed(kind, "fails");
  }
  return ParseCredentialJson(shell.text(), DocumentStyle::kProgram, kind);
}

}  // namespace weightd::source
