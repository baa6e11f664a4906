#include "client/cpp/session_fork.h"

#include <pthread.h>
#include <unistd.h>

#include <mutex>
#include <set>

namespace weightd::client {
namespace {

// std::mutex, since its state is plain in the child: absl::Mutex keeps waiters' threads in it.
// Never destroyed: fork() may come after static destructors.
std::mutex& Lock() {
  static auto* const lock = new std::mutex();
  return *lock;
}

std::set<int>& Sockets() {
  static auto* const sockets = new std::set<int>();
  return *sockets;
}

void BeforeFork() { Lock().lock(); }

void InParent() { Lock().unlock(); }

void InChild() {
  for (const int socket : Sockets()) {
    close(socket);
  }
  // Numbers are soon used for other files, which a grandchild must not lose. (glibc makes its
  // allocator usable before it calls us.)
  Sockets().clear();
  Lock().unlock();
}

}  // namespace

void CloseInChildren(int socket) {
  static const int registered = pthread_atfork(BeforeFork, InParent, InChild);
  static_cast<void>(registered);
  const std::lock_guard<std::mutex> guard(Lock());
  Sockets().insert(socket);
}

void ForgetInChildren(int socket) {
  const std::lock_guard<std::mutex> guard(Lock());
  Sockets().erase(socket);
}

}  // namespace weightd::client
