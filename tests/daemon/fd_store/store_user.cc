// A process of a service that stores descriptors: prints what it takes back, as lines NAME=TEXT,
// then does what its arguments say and says how long it waited for that:
//   store_user OUTPUT KEEPER_DIR [store NAME TEXT | remove NAME | die]...
// "die" is SIGKILL, without waiting for anything. Ends with 3 if there is nowhere to store.

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "daemon/fd_store/inherited.h"
#include "daemon/fd_store/open.h"

namespace {

weightd::Fd FileWith(const std::string& text) {
  weightd::Fd file(memfd_create("test", MFD_CLOEXEC));
  return write(file.get(), text.data(), text.size()) < 0 ? weightd::Fd() : std::move(file);
}

std::string TextOf(const weightd::Fd& file) {
  char text[100] = {};
  return pread(file.get(), text, sizeof(text) - 1, 0) < 0 ? "unreadable" : text;
}

void Print(std::ofstream& output, weightd::fd_store::FdStore& store) {
  for (const weightd::fd_store::StoredFd& stored : store.TakeBack()) {
    output << stored.name << '=' << TextOf(stored.fd) << '\n';
  }
  for (const char* variable : {"FDSTORE", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) {
    if (std::getenv(variable) != nullptr) {
      output << variable << " is left\n";
    }
  }
  output.close();
}

}  // namespace

int main(int argc, char** argv) {
  weightd::fd_store::Options options;
  options.inherited = weightd::fd_store::Inherited::FromEnvironment();
  const char* const manager = std::getenv("NOTIFY_SOCKET");
  options.notify_socket = manager == nullptr ? "" : manager;
  options.keeper_dir = argv[2];
  const auto store = weightd::fd_store::Open(std::move(options));
  if (!store.ok()) {
    return 2;
  }
  if (*store == nullptr) {
    return 3;
  }
  std::ofstream output(argv[1]);
  Print(output, **store);
  for (int i = 3; i < argc; ++i) {
    const std::string verb = argv[i];
    if (verb == "store") {
      (*store)->Store(argv[i + 1], FileWith(argv[i + 2]));
      i += 2;
    } else if (verb == "remove") {
      (*store)->Remove(argv[++i]);
    } else {
      kill(getpid(), SIGKILL);
    }
  }
  return (*store)->Flush(absl::Now() + absl::Seconds(20)) ? 0 : 1;
}
