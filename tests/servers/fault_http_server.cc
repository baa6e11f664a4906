#include "tests/servers/fault_http_server.h"

#include <unistd.h>

#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weightd {
namespace {

// The value of a field of a request's head; empty if it has none.
std::string FieldOf(const std::string& head, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(head, "\r\n")) {
    const std::pair<absl::string_view, absl::string_view> field =
        absl::StrSplit(line, absl::MaxSplits(": ", 1));
    if (absl::EqualsIgnoreCase(field.first, name)) {
      return std::string(field.second);
    }
  }
  return "";
}

}  // namespace

Reply Reply::Status(int status) {
  Reply reply;
  reply.status = status;
  reply.body = "inner words of the server";
  return reply;
}

Reply Reply::Cut(After after, size_t after_bytes) {
  Reply reply;
  reply.after = after;
  reply.after_bytes = after_bytes;
  return reply;
}

Reply Reply::Header(std::string name, std::string value) {
  Reply reply;
  reply.headers.emplace_back(std::move(name), std::move(value));
  return reply;
}

Reply Reply::Whole() {
  Reply reply;
  reply.whole = true;
  return reply;
}

Reply Reply::RedirectTo(std::string location) {
  Reply reply = Header("Location", std::move(location));
  reply.status = 302;
  reply.body = "";
  return reply;
}

FaultHttpServer::FaultHttpServer(std::string object)
    : object_(std::move(object)), server_([this](int connection) { Serve(connection); }) {}

std::string FaultHttpServer::Url(absl::string_view path) const {
  return absl::StrCat("http://127.0.0.1:", server_.port(), path);
}

void FaultHttpServer::Script(std::vector<Reply> replies, Reply always) {
  absl::MutexLock lock(&mutex_);
  script_.assign(replies.begin(), replies.end());
  always_ = std::move(always);
}

void FaultHttpServer::Replace(std::string object, std::string etag) {
  absl::MutexLock lock(&mutex_);
  object_ = std::move(object);
  etag_ = std::move(etag);
}

void FaultHttpServer::SetLastModified(std::string date) {
  absl::MutexLock lock(&mutex_);
  last_modified_ = std::move(date);
}

std::vector<std::string> FaultHttpServer::requests() const {
  absl::MutexLock lock(&mutex_);
  return requests_;
}

void FaultHttpServer::Serve(int connection) {
  std::string received;
  while (const std::optional<std::string> request = TakeHead(connection, received)) {
    const Reply reply = NextReply(*request);
    std::string body;
    const std::string head = HeadOf(reply, *request, &body);
    if (!Send(connection, reply, head, body)) {
      return;
    }
  }
}

Reply FaultHttpServer::NextReply(const std::string& head) {
  absl::MutexLock lock(&mutex_);
  requests_.push_back(head);
  if (script_.empty()) {
    return always_;
  }
  Reply reply = std::move(script_.front());
  script_.pop_front();
  return reply;
}

std::string FaultHttpServer::HeadOf(const Reply& reply, const std::string& request,
                                    std::string* body) const {
  absl::MutexLock lock(&mutex_);
  std::map<std::string, std::string> fields = {{"ETag", etag_}, {"Last-Modified", last_modified_}};
  int status = 200;
  *body = object_;
  std::string range = FieldOf(request, "Range");
  const std::string match = FieldOf(request, "If-Match");
  if (!match.empty() && match != etag_) {
    status = 412;
    body->clear();
  } else if (!range.empty() && !reply.whole) {
    const std::vector<std::string> ends = absl::StrSplit(range.substr(6), '-');
    size_t first = 0;
    size_t last = 0;
    if (!absl::SimpleAtoi(ends[0], &first) || !absl::SimpleAtoi(ends[1], &last) ||
        first >= object_.size()) {
      status = 416;
      body->clear();
    } else {
      status = 206;
      last = std::min(last, object_.size() - 1);
      *body = object_.substr(first, last + 1 - first);
      fields["Content-Range"] = absl::StrCat("bytes ", first, "-", last, "/", object_.size());
    }
  }
  *body = reply.body.value_or(*body);
  fields["Content-Length"] = absl::StrCat(body->size());
  for (const auto& [name, value] : reply.headers) {
    fields[name] = value;
  }
  std::string head =
      absl::StrCat("HTTP/1.1 ", reply.status != 0 ? reply.status : status, " Scripted\r\n");
  for (const auto& [name, value] : fields) {
    if (!value.empty()) {
      absl::StrAppend(&head, name, ": ", value, "\r\n");
    }
  }
  return absl::StrCat(head, "\r\n");
}

// False if the connection shall end.
bool FaultHttpServer::Send(int connection, const Reply& reply, const std::string& head,
                           const std::string& body) {
  const absl::string_view sent = reply.after == Reply::After::kNothing
                                     ? absl::string_view(body)
                                     : absl::string_view(body).substr(0, reply.after_bytes);
  if (!SendAll(connection, head)) {
    return false;
  }
  const size_t step = reply.drip > absl::ZeroDuration() ? reply.drip_bytes : sent.size();
  for (size_t at = 0; at < sent.size(); at += step) {
    if (!SendAll(connection, sent.substr(at, step))) {
      return false;
    }
    if (reply.drip > absl::ZeroDuration()) {
      usleep(absl::ToInt64Microseconds(reply.drip));
    }
  }
  if (reply.after == Reply::After::kReset) {
    Reset(connection);
  } else if (reply.after == Reply::After::kStall) {
    AwaitEnd(connection);
  }
  return reply.after == Reply::After::kNothing;
}

}  // namespace weightd
