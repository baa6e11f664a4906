// One small HTTP call: its bounds, and what its errors mean.

#include "daemon/source/http/http_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "tests/servers/handler_server.h"
#include "tests/servers/loopback_server.h"

namespace weightd::source {
namespace {

using testing::HasSubstr;

constexpr absl::Duration kNoticed = absl::Milliseconds(100);

class HttpCallTest : public testing::Test {
 protected:
  HttpCall To(const std::string& url) const {
    HttpCall call;
    call.name = "the service";
    call.url = url;
    return call;
  }
  Reason ReasonOfCall(const HttpCall& call) {
    Cancellation cancellation;
    const absl::Status status = Call(call, cancellation).status();
    EXPECT_THAT(status.ToString(), testing::Not(HasSubstr("hush")));
    return ReasonOf(status);
  }

  HandlerServer server_{ServiceReply{.body = "answer"}};
  Cancellation never_;
};

TEST_F(HttpCallTest, AsksAsItIsTold) {
  HttpCall call = To(server_.Url("/path?q=1"));
  call.headers = {"X-One: 1", "X-Two: 2"};
  EXPECT_EQ(Call(call, never_)->body, "answer");
  call.method = "PUT";
  EXPECT_EQ(Call(call, never_)->status, 200);
  call.method = "POST";
  call.body = "a=b";
  EXPECT_EQ(Call(call, never_)->status, 200);
  const std::vector<ServiceRequest> requests = server_.requests();
  EXPECT_EQ(requests[0].method, "GET");
  EXPECT_EQ(requests[0].path, "/path?q=1");
  EXPECT_EQ(requests[0].Header("x-two"), "2");
  EXPECT_EQ(requests[0].Header("content-length"), "");
  EXPECT_EQ(requests[1].method, "PUT");
  EXPECT_EQ(requests[1].Header("content-length"), "0");
  EXPECT_EQ(requests[1].Header("content-type"), "");
  EXPECT_EQ(requests[2].body, "a=b");
}

TEST_F(HttpCallTest, EveryStatusIsAnAnswerAndRedirectsAreNotFollowed) {
  server_.Reply({.status = 302, .headers = {absl::StrCat("Location: ", server_.Url("/other"))}});
  EXPECT_EQ(Call(To(server_.Url("/")), never_)->status, 302);
  EXPECT_EQ(server_.requests().size(), 1);
  server_.Reply({.status = 404, .body = "no"});
  EXPECT_EQ(Call(To(server_.Url("/")), never_)->status, 404);
}

TEST_F(HttpCallTest, AnAnswerIsNoLongerThanAsked) {
  HttpCall call = To(server_.Url("/"));
  call.most_bytes = 6;
  EXPECT_TRUE(Call(call, never_).ok());
  call.most_bytes = 5;
  EXPECT_EQ(ReasonOfCall(call), Reason::kSourceProtocol);
  call.most_bytes = 64 << 10;
  server_.Reply({.body = std::string(1 << 20, 'x')});
  EXPECT_EQ(ReasonOfCall(call), Reason::kSourceProtocol);
}

TEST_F(HttpCallTest, NobodyThereIsNotTheSameAsNoAnswer) {
  EXPECT_EQ(ReasonOfCall(To(absl::StrCat("http://127.0.0.1:", UnusedPort(), "/hush"))),
            Reason::kSourceUnavailable);
  server_.Reply({.silent = true});
  HttpCall call = To(server_.Url("/hush"));
  call.timeout = absl::Milliseconds(200);
  EXPECT_EQ(ReasonOfCall(call), Reason::kDeadline);
}

TEST_F(HttpCallTest, WhatIsNoHttpIsRefused) {
  EXPECT_EQ(ReasonOfCall(To("file:///etc/hush")), Reason::kInvalidUri);
  EXPECT_EQ(ReasonOfCall(To("http://hush:port/")), Reason::kInvalidUri);
}

TEST_F(HttpCallTest, OnlyTheNetworksThatAreNamed) {
  HttpCall call = To(absl::StrCat("http://localhost:", server_.port(), "/"));
  call.networks = {*Network::Parse("192.0.2.0/24")};
  EXPECT_EQ(ReasonOfCall(call), Reason::kAddressRefused);
  EXPECT_TRUE(server_.requests().empty());
  call.networks.push_back(*Network::Parse("127.0.0.0/8"));
  EXPECT_TRUE(Call(call, never_).ok());
}

TEST_F(HttpCallTest, TheEnvironmentsProxyIsNotUsed) {
  ASSERT_EQ(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
  EXPECT_TRUE(Call(To(server_.Url("/")), never_).ok());
  unsetenv("http_proxy");
  HttpCall call = To("http://service.invalid/path");
  call.proxy = server_.Url();
  EXPECT_TRUE(Call(call, never_).ok());
  EXPECT_EQ(server_.requests().back().path, "http://service.invalid/path");
}

TEST_F(HttpCallTest, ACancellationIsNoticed) {
  server_.Reply({.silent = true});
  HttpCall call = To(server_.Url("/"));
  call.timeout = absl::Minutes(1);
  // The fastest of some tries: a busy machine adds its own delays.
  absl::Duration fastest = absl::InfiniteDuration();
  for (size_t i = 1; i <= 5 && fastest >= kNoticed; ++i) {
    Cancellation cancellation;
    absl::Time cancelled;
    std::thread canceller([&] {
      EXPECT_TRUE(server_.AwaitRequests(i));
      cancelled = absl::Now();
      cancellation.Cancel(Error(Reason::kCancelled, "nobody waits"));
    });
    const absl::Status status = Call(call, cancellation).status();
    const absl::Time end = absl::Now();
    canceller.join();
    EXPECT_EQ(status.message(), "nobody waits");
    EXPECT_EQ(Call(call, cancellation).status().message(), "nobody waits");
    fastest = std::min(fastest, end - cancelled);
  }
  EXPECT_LT(fastest, kNoticed);
}

TEST_F(HttpCallTest, WhatPassesIsTriedAgainAndTheRestIsNot) {
  server_.Reply({.status = 503});
  EXPECT_EQ(CallPatiently(To(server_.Url("/")), 3, never_)->status, 503);
  EXPECT_EQ(server_.requests().size(), 3);
  server_.Reply({.status = 403});
  EXPECT_EQ(CallPatiently(To(server_.Url("/")), 3, never_)->status, 403);
  EXPECT_EQ(server_.requests().size(), 4);
}

}  // namespace
}  // namespace weightd::source
