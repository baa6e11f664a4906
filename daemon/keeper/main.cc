#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "common/fd.h"
#include "common/notify.h"
#include "common/source_revision.h"
#include "daemon/fd_store/keeper_protocol.h"
#include "daemon/keeper/folder.h"
#include "daemon/keeper/server.h"

// As weightd ends (sysexits.h).
static constexpr int kExitUsage = 64;
static constexpr int kExitUnavailable = 69;

static constexpr char kUsage[] =
    "Usage: weightd-keeper --dir FOLDER\n"
    "Holds descriptors of weightd's memory, so that models outlive the daemon that loaded them.\n"
    "\n"
    "  --dir FOLDER  where its socket is, keeper.sock; weightd's config has it as keeper_dir\n"
    "  --version     prints what this is\n"
    "  --help        prints this\n";

static int Fail(const std::string& problem, int code) {
  std::fprintf(stderr, "weightd-keeper: %s\n", problem.c_str());
  return code;
}

// Readable when we shall end.
static weightd::Fd StopSignals() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigprocmask(SIG_BLOCK, &stop, nullptr);
  return weightd::Fd(signalfd(-1, &stop, SFD_CLOEXEC));
}

// As many as the hard limit allows; returns how many of them are for the shelf.
static size_t RaiseLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  const auto all = std::min<rlim_t>(limit.rlim_max, weightd::fd_store::kMaxStored);
  return all > weightd::keeper::kOwnFds ? all - weightd::keeper::kOwnFds : 0;
}

// Whether its socket, which was removed or replaced, is in its place again. Says so, `told` for
// once.
static bool FoundAgain(weightd::keeper::Folder& folder, weightd::Fd& socket, bool& told) {
  std::string problem;
  weightd::Fd again = folder.ListenAgain(problem);
  if (again.valid()) {
    socket = std::move(again);
    std::fputs("weightd-keeper: its socket was removed or replaced, and is in its place again\n",
               stderr);
    return true;
  }
  if (!std::exchange(told, true)) {
    std::fprintf(stderr,
                 "weightd-keeper: its socket was removed or replaced, and no daemon finds it any "
                 "more: %s; this one ends once nobody is connected\n",
                 problem.c_str());
  }
  return false;
}

static int Keep(const std::string& path) {
  // Nobody reads through /proc what we hold.
  prctl(PR_SET_DUMPABLE, 0);
  umask(0077);
  const size_t limit = RaiseLimit();
  if (limit == 0) {
    return Fail("the limit of open files is too low to hold any: raise it (ulimit -Hn)",
                kExitUnavailable);
  }
  const weightd::Fd stop = StopSignals();
  weightd::keeper::Folder folder;
  std::string problem = folder.Open(path);
  if (!problem.empty()) {
    return Fail(problem, kExitUnavailable);
  }
  weightd::Fd listening = folder.Listen(problem);
  if (!listening.valid()) {
    return Fail(problem, kExitUnavailable);
  }
  const char* const manager = std::getenv("NOTIFY_SOCKET");
  if (manager != nullptr) {
    weightd::Notify(manager, "READY=1");
  }
  std::fprintf(stderr, "weightd-keeper: serves %s, room for %zu descriptors\n", path.c_str(),
               limit);
  const auto find = [&folder, told = false](weightd::Fd& socket) mutable {
    return folder.IsFound() || FoundAgain(folder, socket, told);
  };
  return weightd::keeper::Server(std::move(listening), limit).Serve(stop.get(), find)
             ? EXIT_SUCCESS
             : Fail(
                   "ends: nobody is connected, and nobody can find it any more: start it again, "
                   "unless another one serves",
                   kExitUnavailable);
}

static constexpr std::string_view kDirIs = "--dir=";

int main(int argc, char** argv) {
  const std::string_view option = argc > 1 ? argv[1] : "";
  if (option == "--version" && argc == 2) {
    std::puts(weightd::VersionText("weightd-keeper").c_str());
    return EXIT_SUCCESS;
  }
  if (option == "--help" && argc == 2) {
    std::fputs(kUsage, stdout);
    return EXIT_SUCCESS;
  }
  if (option == "--dir" && argc == 3 && *argv[2] != '\0') {
    return Keep(argv[2]);
  }
  if (argc == 2 && option.starts_with(kDirIs) && option != kDirIs) {
    return Keep(std::string(option.substr(kDirIs.size())));
  }
  std::fputs(kUsage, stderr);
  return kExitUsage;
}
