#ifndef WEIGHTD_TESTS_SERVERS_KEEPER_PROCESS_H_
#define WEIGHTD_TESTS_SERVERS_KEEPER_PROCESS_H_

#include <sys/resource.h>
#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/fd.h"
#include "common/fd_passing.h"

namespace weightd {

inline constexpr char kKeeperProgram[] = "daemon/keeper/weightd-keeper";

// Runs a program and returns what it ended with: its exit code, or the signal's number below zero.
// What it prints is the test's own output.
int RunToEnd(const std::vector<std::string>& command);

// The real weightd-keeper, a process in a folder of its own.
class KeeperProcess {
 public:
  // With a limit of open files, if any; started.
  explicit KeeperProcess(std::optional<rlim_t> max_files = std::nullopt);
  ~KeeperProcess();
  KeeperProcess(const KeeperProcess&) = delete;

  // Returns when it serves.
  void Start();
  // SIGKILL, and its end.
  void Kill();
  // Leaves it alone, the caller's to end; Start then begins another.
  pid_t Abandon();
  // SIGTERM; what it ended with.
  int Stop();
  // SIGSTOP and SIGCONT.
  void Freeze() const;
  void Thaw() const;

  const std::string& folder() const { return folder_; }
  std::string socket() const;
  pid_t pid() const { return pid_; }

 private:
  const std::string place_;
  const std::string folder_;
  const std::optional<rlim_t> max_files_;
  pid_t pid_ = 0;
};

// Somebody who is connected to a SOCK_SEQPACKET socket, and says what they like.
class RawPeer {
 public:
  // Not connected if nobody listens.
  explicit RawPeer(const std::string& path);

  bool connected() const { return socket_.valid(); }
  bool Say(absl::string_view text, const std::vector<int>& fds = {}) const;
  // The next packet; without text once the other side hung up, and if nothing comes in time.
  Packet Hear() const;
  // What is answered to that.
  std::string Ask(absl::string_view text, const std::vector<int>& fds = {}) const;

 private:
  Fd socket_;
};

// Listens in the keeper's place, as a process of that user, and says the same to everybody who
// connects, whatever they say: packets in their order, with as many descriptors as the number after
// '+' says; hangs up at one without text.
class FakeKeeper {
 public:
  FakeKeeper(const std::string& path, std::vector<std::string> script, uid_t user);
  ~FakeKeeper();
  FakeKeeper(const FakeKeeper&) = delete;

 private:
  const std::string path_;
  pid_t pid_ = 0;
};

// A memfd with that text.
Fd FileWith(absl::string_view text);
std::string TextOf(const Fd& file);

// The read end of a pipe, and whether nobody has the other end any more; waits for that.
struct Pipe {
  Pipe();
  bool Abandoned();

  Fd read;
  Fd write;
};

size_t OpenDescriptors();

}  // namespace weightd

#endif  // WEIGHTD_TESTS_SERVERS_KEEPER_PROCESS_H_
