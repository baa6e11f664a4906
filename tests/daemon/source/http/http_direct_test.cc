// How an answer is read off a connection of our own, byte by byte.

#include "daemon/source/http/http_direct.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace weightd::source {
namespace {

using State = DirectConnection::State;

// Wants everything; the body's place has `place_bytes`, what comes beyond goes elsewhere.
class Sink final : public AnswerSink {
 public:
  explicit Sink(size_t place_bytes) : place_(place_bytes, '\0') {}

  bool TakeHeadLine(absl::string_view line) override {
    if (line == "\r\n" || line == "\n") {
      head_done_ = answer_.status >= 200;
    } else {
      answer_.AddLine(line);
    }
    return true;
  }
  bool head_done() const override { return head_done_; }
  const Answer& answer() const override { return answer_; }
  uint64_t Allowed() const override { return allowed_; }
  absl::Span<char> Space() override {
    return absl::MakeSpan(place_).subspan(body_.size() < place_.size() ? body_.size()
                                                                       : place_.size());
  }
  bool Took(size_t bytes) override {
    allowed_ -= bytes;
    body_.append(place_, body_.size(), bytes);
    return true;
  }
  bool TakeBody(absl::Span<const char> bytes) override {
    allowed_ -= std::min<uint64_t>(bytes.size(), allowed_);
    if (body_.size() + bytes.size() <= place_.size()) {
      std::copy(bytes.begin(), bytes.end(), place_.begin() + static_cast<long>(body_.size()));
    }
    body_.append(bytes.data(), bytes.size());
    return true;
  }

  const std::string& body() const { return body_; }
  void Allow(uint64_t bytes) { allowed_ = bytes; }

 private:
  uint64_t allowed_ = 1'000'000;
  std::string place_;
  std::string body_;
  Answer answer_;
  bool head_done_ = false;
};

class HttpDirectTest : public testing::Test {
 protected:
  HttpDirectTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    server_ = Fd(ends[0]);
    connection_ = std::make_unique<DirectConnection>(Fd(ends[1]), "http://host");
  }

  // A socket pair of UNIX wakes for every byte.
  void ConnectOverTcp() {
    const Fd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(bind(listener.get(), any, size), 0);
    ASSERT_EQ(listen(listener.get(), 1), 0);
    ASSERT_EQ(getsockname(listener.get(), any, &size), 0);
    Fd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(client.get(), any, size), 0);
    server_ = Fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    connection_ = std::make_unique<DirectConnection>(std::move(client), "http://host");
  }

  bool Wakes(absl::Duration patience) {
    pollfd waits{.fd = connection_->WaitFor().fd, .events = POLLIN, .revents = 0};
    return poll(&waits, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) > 0;
  }

  void Answer(absl::string_view bytes) {
    ASSERT_EQ(write(server_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  void Send() { connection_->Send("GET / HTTP/1.1\r\n\r\n"); }
  // What becomes of one whole answer.
  State Read(absl::string_view bytes, Sink& sink) {
    Send();
    Answer(bytes);
    return connection_->Drive(sink);
  }
  State Read(absl::string_view bytes) {
    Sink sink(100);
    return Read(bytes, sink);
  }

  Fd server_;
  std::unique_ptr<DirectConnection> connection_;
};

constexpr absl::string_view kAnswer =
    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    "HTTP/1.1 206 Partial\r\nContent-Length: 10\r\nETag: \"e\"\r\n\r\n0123456789";

TEST_F(HttpDirectTest, AnAnswerMayComeInAnyPieces) {
  for (size_t cut = 1; cut < kAnswer.size(); ++cut) {
    Sink sink(cut % 20);
    Send();
    Answer(kAnswer.substr(0, cut));
    ASSERT_EQ(connection_->Drive(sink), State::kGoesOn) << cut;
    Answer(kAnswer.substr(cut));
    ASSERT_EQ(connection_->Drive(sink), State::kEnded) << cut;
    EXPECT_EQ(sink.body(), "0123456789");
    EXPECT_EQ(sink.answer().etag, "\"e\"");
    EXPECT_TRUE(connection_->reusable());
  }
}

TEST_F(HttpDirectTest, LittleOfALargeBodyWakesNobody) {
  ConnectOverTcp();
  constexpr size_t kBody = 1 << 20;
  Sink sink(kBody);
  sink.Allow(2 * kBody);
  EXPECT_EQ(Read(absl::StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", kBody, "\r\n\r\n"), sink),
            State::kGoesOn);
  Answer("x");
  EXPECT_FALSE(Wakes(absl::ZeroDuration()));
  for (size_t sent = 1; sent < kBody; sent = sink.body().size()) {
    Answer(std::string(std::min<size_t>(256 << 10, kBody - sent), 'x'));
    ASSERT_TRUE(Wakes(absl::Seconds(30))) << sent;
    connection_->Drive(sink);
  }
  EXPECT_EQ(sink.body(), std::string(kBody, 'x'));

  Sink next(100);
  EXPECT_EQ(Read(kAnswer, next), State::kEnded) << "of the next answer every byte counts";
}

TEST_F(HttpDirectTest, TheRestOfABodyWakesWhenMoreIsAllowed) {
  ConnectOverTcp();
  constexpr size_t kBody = 300 << 10;
  constexpr size_t kFirst = 250 << 10;
  Sink sink(kBody);
  sink.Allow(kFirst);
  EXPECT_EQ(Read(absl::StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", kBody, "\r\n\r\n"), sink),
            State::kGoesOn);
  for (size_t sent = 0; sent < kBody; sent += kBody / 3) {
    Answer(std::string(kBody / 3, 'x'));
    connection_->Drive(sink);
  }
  EXPECT_EQ(sink.body().size(), kFirst);
  sink.Allow(kBody);
  ASSERT_TRUE(Wakes(absl::Seconds(30)));
  EXPECT_EQ(connection_->Drive(sink), State::kEnded);
}

TEST_F(HttpDirectTest, AnEarlyEndOfALargeBodyWakes) {
  ConnectOverTcp();
  Sink sink(1 << 20);
  EXPECT_EQ(Read("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n", sink), State::kGoesOn);
  server_.Reset();
  ASSERT_TRUE(Wakes(absl::Seconds(30)));
  EXPECT_EQ(connection_->Drive(sink), State::kCutShort);
}

TEST_F(HttpDirectTest, WhatIsNotPlainIsLeftToOthers) {
  const std::string too_long(70'000, 'x');
  for (const std::string& head : {
           std::string("HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
           std::string("HTTP/1.1 206 P\r\n\r\n"),
           std::string("HTTP/1.1 206 P\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
           std::string("HTTP/1.1 206 P\r\nContent-Length: 5\r\nContent-Length: x\r\n\r\n"),
           std::string("HTTP/1.1 206 P\r\nContent-Length: 5\r\nX: y\r\n Content-Length: 6\r\n\r\n"),
           std::string("HTTP/1.1 206 P\r\nX: y\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
           std::string("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
           std::string("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
           std::string("SSH-2.0-server\r\n"),
           std::string("HTTP/2 200\r\n"),
           absl::StrCat("HTTP/1.1 206 P\r\nX: ", too_long, "\r\n\r\n"),
       }) {
    EXPECT_EQ(Read(head + "12345"), State::kUnsuited) << head.substr(0, 80);
    EXPECT_FALSE(connection_->reusable());
    std::string rest(100'000, '\0');
    recv(server_.get(), rest.data(), rest.size(), MSG_DONTWAIT);
    std::array<int, 2> ends{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    server_ = Fd(ends[0]);
    connection_ = std::make_unique<DirectConnection>(Fd(ends[1]), "http://host");
  }
}

TEST_F(HttpDirectTest, NoMoreIsReceivedThanIsAllowed) {
  for (const size_t place_bytes : {0, 100}) {
    Sink sink(place_bytes);
    sink.Allow(0);
    Send();
    Answer("HTTP/1.1 206 P\r\nContent-Length: 10\r\n\r\n");
    ASSERT_EQ(connection_->Drive(sink), State::kGoesOn);
    EXPECT_FALSE(sink.head_done());
    sink.Allow(1);
    ASSERT_EQ(connection_->Drive(sink), State::kGoesOn);
    EXPECT_TRUE(sink.head_done());
    sink.Allow(0);
    Answer("0123456789");
    ASSERT_EQ(connection_->Drive(sink), State::kGoesOn);
    EXPECT_EQ(sink.body(), "");
    sink.Allow(4);
    ASSERT_EQ(connection_->Drive(sink), State::kGoesOn);
    EXPECT_EQ(sink.body(), "0123");
    sink.Allow(100);
    ASSERT_EQ(connection_->Drive(sink), State::kEnded);
    EXPECT_EQ(sink.body(), "0123456789");
  }
}

TEST_F(HttpDirectTest, ABodyWithoutBytesIsAnAnswer) {
  EXPECT_EQ(Read("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), State::kEnded);
  EXPECT_TRUE(connection_->reusable());
}

TEST_F(HttpDirectTest, OnlyWhatEndedAsAnnouncedIsUsedAgain) {
  EXPECT_EQ(Read("HTTP/1.1 206 P\r\nContent-Length: 2\r\nConnection: close\r\n\r\n12"),
            State::kEnded);
  EXPECT_FALSE(connection_->reusable());
  EXPECT_EQ(Read("HTTP/1.0 206 P\r\nContent-Length: 2\r\n\r\n12"), State::kEnded);
  EXPECT_FALSE(connection_->reusable());
  EXPECT_EQ(Read("HTTP/1.1 206 P\r\nContent-Length: 2\r\n\r\n12"), State::kEnded);
  EXPECT_TRUE(connection_->reusable());
  // Bytes that nobody asked for would be taken for the next answer.
  Answer("HTTP/1.1 206 P\r\n");
  EXPECT_FALSE(connection_->reusable());
}

TEST_F(HttpDirectTest, AnEndIsNoticed) {
  EXPECT_EQ(Read("HTTP/1.1 206 P\r\nContent-Length: 2\r\n\r\n12"), State::kEnded);
  server_.Reset();
  EXPECT_FALSE(connection_->reusable());
  Sink sink(10);
  Send();
  EXPECT_EQ(connection_->Drive(sink), State::kUnseen);
}

TEST_F(HttpDirectTest, AnAnswerThatIsCutIsAnError) {
  Sink sink(100);
  EXPECT_EQ(Read("HTTP/1.1 206 P\r\nContent-Length: 10\r\n\r\n123", sink), State::kGoesOn);
  server_.Reset();
  EXPECT_EQ(connection_->Drive(sink), State::kCutShort);
  EXPECT_EQ(sink.body(), "123");
}

}  // namespace
}  // namespace weightd::source
