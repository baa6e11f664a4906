// A web server of one file, far away: every connection begins slowly, has a rate of its own that it
// never exceeds, and answers a round trip late. For benchmarks; it believes what it is sent.
//
//   shaped_server FILE ROUND_TRIP_MILLISECONDS MEGABITS_PER_CONNECTION
//
// Prints its port, and ends when its standard input does.

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

// What TCP sends in the first round trip, RFC 6928; it doubles with each.
constexpr double kFirstWindow = 14'600;
constexpr std::chrono::milliseconds kStep{2};

struct Link {
  std::chrono::milliseconds round_trip;
  double bytes_per_second;
};

struct File {
  int fd;
  off_t size;
};

class Connection {
 public:
  Connection(int socket, const File& file, const Link& link)
      : socket_(socket), file_(file), link_(link), window_(kFirstWindow) {
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  ~Connection() { close(socket_); }
  Connection(const Connection&) = delete;

  void Serve() {
    // The handshake's round trip.
    std::this_thread::sleep_for(link_.round_trip);
    std::string request;
    while (ReadRequest(request)) {
      std::this_thread::sleep_for(link_.round_trip);
      if (!Answer(request)) {
        return;
      }
    }
  }

 private:
  bool ReadRequest(std::string& request) const {
    request.clear();
    std::array<char, 4096> bytes{};
    while (request.find("\r\n\r\n") == std::string::npos) {
      const ssize_t received = recv(socket_, bytes.data(), bytes.size(), 0);
      if (received <= 0) {
        return false;
      }
      request.append(bytes.data(), static_cast<size_t>(received));
    }
    return true;
  }

  bool Answer(const std::string& request) {
    off_t begin = 0;
    off_t end = file_.size;
    std::string head = "HTTP/1.1 200 OK\r\n";
    const size_t range = request.find("Range: bytes=");
    if (range != std::string::npos) {
      long long first = 0;
      long long last = file_.size - 1;
      sscanf(request.c_str() + range, "Range: bytes=%lld-%lld", &first, &last);
      begin = first;
      end = std::min<off_t>(last + 1, file_.size);
      head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " + std::to_string(begin) + "-" +
             std::to_string(end - 1) + "/" + std::to_string(file_.size) + "\r\n";
    }
    head += "ETag: \"shaped\"\r\nContent-Length: " + std::to_string(end - begin) + "\r\n\r\n";
    return send(socket_, head.data(), head.size(), MSG_NOSIGNAL) ==
               static_cast<ssize_t>(head.size()) &&
           SendBody(begin, end);
  }

  // Sends what the time allows, step by step; what a late step missed the next one makes up for.
  bool SendBody(off_t begin, off_t end) {
    double allowed = 0;
    for (Clock::time_point last = Clock::now(); begin < end;) {
      std::this_thread::sleep_for(kStep);
      const Clock::time_point now = Clock::now();
      const double seconds = std::chrono::duration<double>(now - last).count();
      last = now;
      const double round_trip = std::chrono::duration<double>(link_.round_trip).count();
      const double rate = std::min(window_ / round_trip, link_.bytes_per_second);
      window_ = std::min(window_ * (1 + seconds / round_trip), link_.bytes_per_second * round_trip);
      allowed = std::min(allowed + rate * seconds, link_.bytes_per_second / 10);
      const ssize_t sent =
          sendfile(socket_, file_.fd, &begin,
                   static_cast<size_t>(std::min(allowed, static_cast<double>(end - begin))));
      if (sent < 0) {
        return false;
      }
      allowed -= static_cast<double>(sent);
    }
    return true;
  }

  const int socket_;
  const File& file_;
  const Link& link_;
  double window_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    return 2;
  }
  const int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
  struct stat status{};
  if (fd < 0 || fstat(fd, &status) != 0) {
    perror(argv[1]);
    return 1;
  }
  static const File file = {fd, status.st_size};
  static const Link link = {std::chrono::milliseconds(atoi(argv[2])), atof(argv[3]) * 1e6 / 8};
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener, 256) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    perror("listen");
    return 1;
  }
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  std::thread([] {
    while (getchar() != EOF) {
    }
    _exit(0);
  }).detach();
  while (true) {
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket >= 0) {
      std::thread([socket] { Connection(socket, file, link).Serve(); }).detach();
    }
  }
}
