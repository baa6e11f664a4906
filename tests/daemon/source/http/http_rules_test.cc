// The pure rules of the HTTP source: what an answer says, when to try again, which proxy.

#include <gtest/gtest.h>

#include <map>

#include "common/status.h"
#include "daemon/source/http/http_answer.h"
#include "daemon/source/http/http_errors.h"
#include "daemon/source/http/proxy_choice.h"
#include "daemon/source/http/retry_policy.h"
#include "daemon/source/traffic.h"

namespace weightd::source {
namespace {

Answer AnswerOf(std::initializer_list<absl::string_view> lines) {
  Answer answer;
  for (absl::string_view line : lines) {
    answer.AddLine(line);
  }
  return answer;
}

TEST(AnswerTest, ReadsAHeadWhateverItsCaseAndForgetsWhatCameBefore) {
  const Answer answer = AnswerOf({"HTTP/1.1 103 Early Hints\r\n", "ETag: \"old\"\r\n",
                                  "HTTP/1.1 206 Partial Content\r\n", "eTaG:  \"new\" \r\n",
                                  "CONTENT-LENGTH: 7\r\n", "Retry-After: 3\r\n", "garbage\r\n"});
  EXPECT_EQ(answer.status, 206);
  EXPECT_EQ(answer.etag, "\"new\"");
  EXPECT_EQ(answer.content_length, 7);
  EXPECT_EQ(answer.retry_after, absl::Seconds(3));
}

TEST(AnswerTest, ContentRangeIsReadExactly) {
  const std::optional<ContentRange> range = ParseContentRange("bytes 5-9/10");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->range, (ByteRange{5, 10}));
  EXPECT_EQ(range->total, 10);
  for (const char* const bad :
       {"", "bytes", "bytes 5-9", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 5-10/10",
        "bytes -5-9/10", "bytes 5-+9/10", "bytes 5-9/ 10", "5-9/10", "items 5-9/10",
        "bytes 5-99999999999999999999/10", "bytes 5/9-10"}) {
    EXPECT_FALSE(ParseContentRange(bad).has_value()) << bad;
  }
}

TEST(AnswerTest, AVersionNeedsASize) {
  const Uri uri = *Uri::Parse("http://host/m");
  EXPECT_EQ(ReasonOf(VersionFrom(AnswerOf({"HTTP/1.1 200 OK"}), uri).status()),
            Reason::kSourceProtocol);
  const absl::StatusOr<ObjectVersion> whole =
      VersionFrom(AnswerOf({"HTTP/1.1 200 OK", "Content-Length: 12"}), uri);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(whole->size, 12);
  EXPECT_FALSE(whole->ranges);
  EXPECT_FALSE(whole->strong);
}

TEST(RetryPolicyTest, WaitsDoubleAreSpreadAndBounded) {
  EXPECT_EQ(NextTry({1, 1}, 5, {}, 1), absl::Milliseconds(200));
  EXPECT_EQ(NextTry({1, 1}, 5, {}, 0), absl::Milliseconds(100));
  EXPECT_EQ(NextTry({3, 3}, 5, {}, 1), absl::Milliseconds(800));
  EXPECT_EQ(NextTry({50, 50}, 99, {}, 1), absl::Seconds(10));
  EXPECT_EQ(NextTry({1, 1}, 5, absl::Seconds(7), 1), absl::Seconds(7));
  EXPECT_EQ(NextTry({1, 1}, 5, absl::Hours(7), 1), absl::Minutes(1));
  EXPECT_EQ(NextTry({5, 5}, 5, {}, 0), std::nullopt);
}

TEST(RetryPolicyTest, TheWaitDoublesAlsoWhereABusyServersFailuresDoNotCount) {
  FailedTries failed;
  for (const int milliseconds : {200, 400, 800}) {
    failed.Add(/*progressed=*/false, /*served_others=*/true);
    EXPECT_EQ(NextTry(failed, 2, {}, 1), absl::Milliseconds(milliseconds));
  }
  failed.Add(/*progressed=*/true, /*served_others=*/false);
  EXPECT_EQ(NextTry(failed, 2, {}, 1), absl::Milliseconds(200));
  failed.Add(/*progressed=*/false, /*served_others=*/false);
  EXPECT_EQ(NextTry(failed, 2, {}, 1), std::nullopt);
}

TEST(RetryPolicyTest, ABudgetIsSpentByFailuresAndEarnedBySuccesses) {
  RetryBudget budget(2);
  EXPECT_TRUE(budget.Take());
  EXPECT_TRUE(budget.Take());
  EXPECT_FALSE(budget.Take());
  for (int i = 0; i < 6; ++i) {
    budget.Succeeded();
  }
  EXPECT_TRUE(budget.Take());
  EXPECT_FALSE(budget.Take());
  EXPECT_EQ(budget.successes(), 6);
}

TEST(RetryPolicyTest, ABudgetLastsForEverWhereEveryTenthAnswerIsAFailure) {
  RetryBudget budget(40);
  for (int i = 1; i <= 100'000; ++i) {
    if (i % 10 == 0) {
      ASSERT_TRUE(budget.Take()) << "after " << i << " answers";
    } else {
      budget.Succeeded();
    }
  }
}

TEST(ProxyChoiceTest, TheEnvironmentDecides) {
  std::map<std::string, std::string> environment = {
      {"http_proxy", "http://p:1"},
      {"HTTPS_PROXY", "http://p:2"},
      {"no_proxy", "localhost, .Internal,10.0.0.0/8"}};
  const ProxyChoice choice([&](const char* name) { return environment[name]; });
  EXPECT_EQ(choice.For("http", "example.com"), "http://p:1");
  EXPECT_EQ(choice.For("https", "example.com"), "http://p:2");
  EXPECT_EQ(choice.For("http", "localhost"), "");
  EXPECT_EQ(choice.For("http", "store.internal"), "");
  EXPECT_EQ(choice.For("http", "notinternal"), "http://p:1");
  EXPECT_EQ(choice.For("http", "10.1.2.3"), "");
  EXPECT_EQ(choice.For("http", "11.1.2.3"), "http://p:1");
  environment = {{"HTTP_PROXY", "http://p:3"}};
  EXPECT_EQ(ProxyChoice([&](const char* name) { return environment[name]; }).For("http", "h"), "");
}

// libcurl repeats names of a certificate, which whoever made it has chosen.
TEST(HttpErrorsTest, WhatPassesSaysWhyItIsTriedAgain) {
  const std::map<int, RetryReason> of_statuses = {{429, RetryReason::kThrottled},
                                                  {503, RetryReason::kThrottled},
                                                  {408, RetryReason::kServerError},
                                                  {500, RetryReason::kServerError}};
  for (const auto& [status, reason] : of_statuses) {
    const HttpFailure failure = FailureOfStatus(status, absl::ZeroDuration(), "m");
    EXPECT_TRUE(failure.passing && failure.retry == reason) << status;
  }
  const std::map<CURLcode, RetryReason> of_codes = {
      {CURLE_OPERATION_TIMEDOUT, RetryReason::kStalled},
      {CURLE_PARTIAL_FILE, RetryReason::kCutShort},
      {CURLE_GOT_NOTHING, RetryReason::kCutShort},
      {CURLE_COULDNT_CONNECT, RetryReason::kConnection},
      {CURLE_RECV_ERROR, RetryReason::kConnection}};
  for (const auto& [code, reason] : of_codes) {
    const HttpFailure failure = FailureOfCurl(code, "", "m");
    EXPECT_TRUE(failure.passing && failure.retry == reason) << code;
  }
  EXPECT_EQ(ShortBody("m").retry, RetryReason::kCutShort);
}

TEST(HttpErrorsTest, WordsOfACertificateAreEscaped) {
  const absl::Status status =
      FailureOfCurl(CURLE_PEER_FAILED_VERIFICATION, "subject 'a\x1b[2J\nb\xff'", "m").status;
  EXPECT_EQ(status.message(),
            "m: the server's certificate is not trusted: subject 'a\\x1b[2J\\x0ab\\xff'");
}

}  // namespace
}  // namespace weightd::source
