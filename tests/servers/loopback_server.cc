#include "tests/servers/loopback_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <utility>

namespace weightd {
namespace {

Fd Bound(uint16_t* port) {
  Fd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    std::abort();
  }
  *port = ntohs(address.sin_port);
  return listener;
}

bool ReceiveMore(int connection, std::string& received) {
  char buffer[4096];
  const ssize_t count = recv(connection, buffer, sizeof(buffer), 0);
  if (count > 0) {
    received.append(buffer, static_cast<size_t>(count));
  }
  return count > 0;
}

}  // namespace

LoopbackServer::LoopbackServer(Serve serve) : listener_(Bound(&port_)), serve_(std::move(serve)) {
  if (listen(listener_.get(), 64) != 0) {
    std::abort();
  }
  acceptor_ = std::thread([this] { Accept(); });
}

LoopbackServer::~LoopbackServer() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    shutdown(listener_.get(), SHUT_RDWR);
    for (const Fd& connection : connections_) {
      shutdown(connection.get(), SHUT_RDWR);
    }
  }
  acceptor_.join();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

size_t LoopbackServer::connections() const {
  absl::MutexLock lock(&mutex_);
  return connections_.size();
}

void LoopbackServer::Accept() {
  while (true) {
    Fd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    absl::MutexLock lock(&mutex_);
    if (stopping_ || !connection.valid()) {
      return;
    }
    connections_.push_back(std::move(connection));
    threads_.emplace_back([this, fd = connections_.back().get()] {
      serve_(fd);
      shutdown(fd, SHUT_RDWR);
    });
  }
}

bool SendAll(int connection, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) {
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool ReceiveUntil(int connection, size_t bytes, std::string& received) {
  while (received.size() < bytes) {
    if (!ReceiveMore(connection, received)) {
      return false;
    }
  }
  return true;
}

std::optional<std::string> TakeHead(int connection, std::string& received) {
  size_t end = received.find("\r\n\r\n");
  while (end == std::string::npos) {
    if (!ReceiveMore(connection, received)) {
      return std::nullopt;
    }
    end = received.find("\r\n\r\n");
  }
  std::string head = received.substr(0, end);
  received.erase(0, end + 4);
  return head;
}

void AwaitEnd(int connection) {
  for (std::string ignored; ReceiveMore(connection, ignored); ignored.clear()) {
  }
}

void Reset(int connection) {
  // How Linux is told to send a reset and keep the descriptor.
  const sockaddr nobody = {.sa_family = AF_UNSPEC, .sa_data = {}};
  if (connect(connection, &nobody, sizeof(nobody)) != 0) {
    std::abort();
  }
}

uint16_t UnusedPort() {
  uint16_t port = 0;
  Bound(&port);
  return port;
}

}  // namespace weightd
