#include "tests/servers/handler_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace weightd {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

Fd Listener(uint16_t* port) {
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

// Receives until `received` holds `bytes` bytes.
bool Fill(int connection, std::string& received, size_t bytes) {
  char buffer[4096];
  while (received.size() < bytes) {
    const ssize_t count = recv(connection, buffer, sizeof(buffer), 0);
    if (count <= 0) {
      return false;
    }
    received.append(buffer, count);
  }
  return true;
}

ServiceRequest ParseHead(absl::string_view head) {
  ServiceRequest request;
  const std::vector<std::string> lines = absl::StrSplit(head, "\r\n");
  const std::vector<std::string> words = absl::StrSplit(lines[0], ' ');
  request.method = words[0];
  request.path = words.size() > 1 ? words[1] : "";
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::pair<std::string, std::string> field =
        absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
    request.headers[absl::AsciiStrToLower(field.first)] = field.second;
  }
  return request;
}

// Takes one request off `received`, receiving more as needed.
std::optional<ServiceRequest> Receive(int connection, std::string& received) {
  size_t end = received.find("\r\n\r\n");
  while (end == std::string::npos) {
    if (!Fill(connection, received, received.size() + 1)) {
      return std::nullopt;
    }
    end = received.find("\r\n\r\n");
  }
  ServiceRequest request = ParseHead(absl::string_view(received).substr(0, end));
  received.erase(0, end + 4);
  size_t length = 0;
  if (absl::SimpleAtoi(request.Header("content-length"), &length)) {
    if (!Fill(connection, received, length)) {
      return std::nullopt;
    }
    request.body = received.substr(0, length);
    received.erase(0, length);
  }
  return request;
}

bool Send(int connection, const ServiceReply& reply) {
  std::string text = absl::StrCat("HTTP/1.1 ", reply.status,
                                  " Said\r\nContent-Length: ", reply.body.size(), "\r\n");
  for (const std::string& header : reply.headers) {
    absl::StrAppend(&text, header, "\r\n");
  }
  absl::StrAppend(&text, "\r\n", reply.body);
  absl::string_view left = text;
  while (!left.empty()) {
    const ssize_t sent = send(connection, left.data(), left.size(), MSG_NOSIGNAL);
    if (sent <= 0) {
      return false;
    }
    left.remove_prefix(sent);
  }
  return true;
}

}  // namespace

std::string ServiceRequest::Header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

HandlerServer::HandlerServer(Handler handler)
    : listener_(Listener(&port_)), handler_(std::move(handler)) {
  if (listen(listener_.get(), 64) != 0) {
    std::abort();
  }
  acceptor_ = std::thread([this] { Accept(); });
}

HandlerServer::HandlerServer(ServiceReply reply)
    : HandlerServer([reply = std::move(reply)](const ServiceRequest&) { return reply; }) {}

HandlerServer::~HandlerServer() {
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

std::string HandlerServer::Url(absl::string_view path) const {
  return absl::StrCat("http://127.0.0.1:", port_, path);
}

void HandlerServer::Reply(ServiceReply reply) {
  absl::MutexLock lock(&mutex_);
  handler_ = [reply = std::move(reply)](const ServiceRequest&) { return reply; };
}

std::vector<ServiceRequest> HandlerServer::requests() const {
  absl::MutexLock lock(&mutex_);
  return requests_;
}

bool HandlerServer::AwaitRequests(size_t count) const {
  const auto came = [this, count] {
    mutex_.AssertReaderHeld();
    return requests_.size() >= count;
  };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&came), kPatience);
}

void HandlerServer::Accept() {
  while (true) {
    Fd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    absl::MutexLock lock(&mutex_);
    if (stopping_ || !connection.valid()) {
      return;
    }
    connections_.push_back(std::move(connection));
    threads_.emplace_back([this, fd = connections_.back().get()] { Serve(fd); });
  }
}

void HandlerServer::Serve(int connection) {
  std::string received;
  while (const std::optional<ServiceRequest> request = Receive(connection, received)) {
    Handler handler;
    {
      absl::MutexLock lock(&mutex_);
      requests_.push_back(*request);
      handler = handler_;
    }
    const ServiceReply reply = handler(*request);
    if (reply.silent) {
      Fill(connection, received, SIZE_MAX);
      return;
    }
    if (!Send(connection, reply)) {
      return;
    }
  }
}

uint16_t UnusedPort() {
  uint16_t port = 0;
  Listener(&port);
  return port;
}

}  // namespace weightd
