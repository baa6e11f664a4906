#include "tests/servers/handler_server.h"

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
  const std::optional<std::string> head = TakeHead(connection, received);
  if (!head.has_value()) {
    return std::nullopt;
  }
  ServiceRequest request = ParseHead(*head);
  size_t length = 0;
  if (absl::SimpleAtoi(request.Header("content-length"), &length)) {
    if (!ReceiveUntil(connection, length, received)) {
      return std::nullopt;
    }
    request.body = received.substr(0, length);
    received.erase(0, length);
  }
  return request;
}

// The answer to a HEAD is without the body whose length it tells.
bool Send(int connection, const ServiceReply& reply, bool with_body) {
  std::string text = absl::StrCat("HTTP/1.1 ", reply.status,
                                  " Said\r\nContent-Length: ", reply.body.size(), "\r\n");
  for (const std::string& header : reply.headers) {
    absl::StrAppend(&text, header, "\r\n");
  }
  return SendAll(connection, absl::StrCat(text, "\r\n", with_body ? reply.body : ""));
}

}  // namespace

std::string ServiceRequest::Header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

HandlerServer::HandlerServer(Handler handler)
    : handler_(std::move(handler)), server_([this](int connection) { Serve(connection); }) {}

HandlerServer::HandlerServer(ServiceReply reply)
    : HandlerServer([reply = std::move(reply)](const ServiceRequest&) { return reply; }) {}

std::string HandlerServer::Url(absl::string_view path) const {
  return absl::StrCat("http://127.0.0.1:", port(), path);
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
      AwaitEnd(connection);
      return;
    }
    if (reply.closes || !Send(connection, reply, request->method != "HEAD")) {
      return;
    }
  }
}

}  // namespace weightd
