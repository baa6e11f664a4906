// Listens where a listener of weightd would, takes every connection, and throws away what comes:
// what a flood costs by itself.
//   dummy_server FOLDER

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

int Listen(const std::string& path, int type) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  const int listening = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listening, 512) != 0) {
    std::perror(path.c_str());
    return -1;
  }
  return listening;
}

void Watch(int epoll, int socket) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = socket;
  epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event);
}

// Whether more may come.
bool ReadAll(int socket) {
  std::array<char, 65536> bytes;
  while (true) {
    const ssize_t got = recv(socket, bytes.data(), bytes.size(), 0);
    if (got <= 0) {
      return got < 0 && errno == EAGAIN;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    return 64;
  }
  const std::string folder = argv[1];
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const int calls = Listen(folder + "/weightd.sock", SOCK_STREAM);
  const int handles = Listen(folder + "/handles.sock", SOCK_SEQPACKET);
  if (calls < 0 || handles < 0) {
    return 69;
  }
  Watch(epoll, calls);
  Watch(epoll, handles);
  std::puts("ready");
  std::fflush(stdout);
  std::array<epoll_event, 64> events;
  while (true) {
    const int count = epoll_wait(epoll, events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const int ready = events[static_cast<size_t>(i)].data.fd;
      if (ready == calls || ready == handles) {
        for (int next = 0; next >= 0;) {
          next = accept4(ready, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
          if (next >= 0) {
            Watch(epoll, next);
          }
        }
      } else if (!ReadAll(ready)) {
        close(ready);
      }
    }
  }
}
