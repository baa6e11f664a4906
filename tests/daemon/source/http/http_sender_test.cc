// Which connections are used for another request.

#include "daemon/source/http/http_sender.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "common/cancellation.h"
#include "daemon/source/http/http_errors.h"
#include "daemon/source/http/proxy_choice.h"
#include "tests/servers/loopback_server.h"

namespace weightd::source {
namespace {

constexpr absl::string_view kRight = "HTTP/1.1 200 OK\r\nETag: right\r\nContent-Length: 0\r\n\r\n";
constexpr absl::string_view kWrong = "HTTP/1.1 200 OK\r\nETag: wrong\r\nContent-Length: 0\r\n\r\n";
constexpr absl::string_view kOfThree =
    "HTTP/1.1 200 OK\r\nETag: right\r\nContent-Length: 3\r\n\r\n";
constexpr absl::string_view kChunked =
    "HTTP/1.1 200 OK\r\nETag: right\r\nTransfer-Encoding: chunked\r\n\r\n";

// A sender, and a server that answers the very first request as it is told, all others right.
class Conversation {
 public:
  // `late` comes after the first answer, when SendLate() says so.
  explicit Conversation(std::string first, std::string late = "")
      : first_(std::move(first)), late_(std::move(late)) {}

  // The ETag of the answer.
  std::string Send(const std::string& method) {
    HttpRequest request;
    request.method = method;
    request.hop.url = absl::StrCat("http://127.0.0.1:", server_.port(), "/object");
    request.hop.scheme = "http";
    request.hop.host = "127.0.0.1";
    const auto result = sender_.Send(request, "the object", never_);
    const HttpAnswer* const answer = std::get_if<HttpAnswer>(&result);
    return answer == nullptr ? std::get<HttpFailure>(result).status.ToString() : answer->head.etag;
  }

  void SendLate() {
    may_send_.Notify();
    sent_.WaitForNotification();
  }

  size_t connections() const { return server_.connections(); }

 private:
  void Serve(int connection) {
    std::string received;
    while (TakeHead(connection, received).has_value()) {
      const bool is_first = !began_.exchange(true);
      if (!SendAll(connection, is_first ? first_ : kRight)) {
        return;
      }
      if (is_first && !late_.empty()) {
        may_send_.WaitForNotification();
        SendAll(connection, late_);
        sent_.Notify();
      }
    }
  }

  const std::string first_;
  const std::string late_;
  std::atomic<bool> began_ = false;
  absl::Notification may_send_;
  absl::Notification sent_;
  Cancellation never_;
  HttpSender sender_{"", ProxyChoice::FromEnvironment()};
  LoopbackServer server_{[this](int connection) { Serve(connection); }};
};

struct First {
  std::string method;
  std::string answer;
};

std::vector<First> Answers() {
  return {{"PUT", std::string(kRight)},
          {"HEAD", std::string(kOfThree)},
          {"GET", absl::StrCat(kOfThree, "abc")},
          {"DELETE", "HTTP/1.1 204 No Content\r\nETag: right\r\n\r\n"},
          {"POST", absl::StrCat(kChunked, "3\r\nabc\r\n0\r\n\r\n")}};
}

TEST(HttpSenderTest, AConnectionIsUsedAgain) {
  for (const First& first : Answers()) {
    Conversation conversation(first.answer);
    EXPECT_EQ(conversation.Send(first.method), "right");
    EXPECT_EQ(conversation.Send("PUT"), "right");
    EXPECT_EQ(conversation.Send("GET"), "right");
    EXPECT_EQ(conversation.connections(), 1u) << first.method;
  }
}

TEST(HttpSenderTest, AConnectionWithMoreThanAnAnswerIsNot) {
  for (const First& first : Answers()) {
    for (const absl::string_view more : {kWrong, absl::string_view("abc")}) {
      Conversation conversation(absl::StrCat(first.answer, more));
      EXPECT_EQ(conversation.Send(first.method), "right");
      EXPECT_EQ(conversation.Send("PUT"), "right");
      EXPECT_EQ(conversation.connections(), 2u) << first.method << " " << more;
    }
  }
}

TEST(HttpSenderTest, AConnectionOnWhichMoreComesLaterIsNot) {
  for (const First& first : Answers()) {
    Conversation conversation(first.answer, std::string(kWrong));
    EXPECT_EQ(conversation.Send(first.method), "right");
    conversation.SendLate();
    EXPECT_EQ(conversation.Send("PUT"), "right");
    EXPECT_EQ(conversation.connections(), 2u) << first.method;
  }
}

}  // namespace
}  // namespace weightd::source
