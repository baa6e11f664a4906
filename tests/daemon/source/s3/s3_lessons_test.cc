// What a store teaches of regions and clocks while several requests are on their way, or in answers
// without a body.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/s3/s3_source.h"
#include "daemon/source/source.h"
#include "tests/fakes/fixed_credentials.h"
#include "tests/servers/handler_server.h"
#include "tests/servers/memory_s3.h"

namespace weightd::source {
namespace {

using testing::SizeIs;

constexpr absl::string_view kCrc32c = "y/Q5Jg==";

// "eu" of "Credential=key/date/eu/s3/aws4_request".
bool IsSignedFor(const ServiceRequest& request, absl::string_view region) {
  return absl::StrContains(request.Header("authorization"), absl::StrCat("/", region, "/s3/"));
}

// "20261128T120000Z"; read with a blank, for a year may have any number of digits.
bool IsSignedAt(const ServiceRequest& request, absl::Time time) {
  const std::string text = request.Header("x-amz-date");
  absl::Time signed_at;
  return text.size() == 16 &&
         absl::ParseTime("%Y %m%dT%H%M%SZ", absl::StrCat(text.substr(0, 4), " ", text.substr(4)),
                         &signed_at, nullptr) &&
         absl::AbsDuration(signed_at - time) < absl::Minutes(15);
}

ServiceReply Elsewhere(absl::string_view region) {
  ServiceReply reply = S3ErrorReply(400, "AuthorizationHeaderMalformed");
  reply.body = absl::StrCat(reply.body.substr(0, reply.body.rfind("</Error>")), "<Region>", region,
                            "</Region></Error>");
  return reply;
}

ServiceReply Skewed(absl::Time now) {
  ServiceReply reply = S3ErrorReply(403, "RequestTimeTooSkewed");
  reply.headers = {absl::StrCat(
      "Date: ", absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", now, absl::UTCTimeZone()))};
  return reply;
}

// One byte of an object, or what is known of its checksums.
ServiceReply Right(const ServiceRequest& request) {
  ServiceReply reply = {.body = "x", .headers = {"ETag: \"abc\""}};
  if (request.method == "HEAD") {
    reply.headers.push_back(absl::StrCat("x-amz-checksum-crc32c: ", kCrc32c));
  } else {
    reply.status = 206;
    reply.headers.emplace_back("Content-Range: bytes 0-0/1");
  }
  return reply;
}

class S3LessonsTest : public testing::Test {
 protected:
  void Serve(HandlerServer::Handler handler) {
    server_ = std::make_unique<HandlerServer>(std::move(handler));
    S3SourceOptions options;
    options.http.attempts = 3;
    S3StoreOptions store;
    store.location = {.endpoint = server_->Url(), .region = "us-east-1"};
    store.buckets = {"bucket"};
    store.credentials = std::make_shared<fakes::FixedCredentials>("hidden");
    options.stores.push_back(std::move(store));
    source_ = *MakeS3Source(std::move(options));
  }

  absl::StatusOr<ObjectVersion> Stat(const std::string& key = "key") {
    Cancellation cancellation;
    return source_->Stat(*Uri::Parse("s3://bucket/" + key), {}, cancellation);
  }

  absl::StatusOr<std::vector<Checksum>> Checksums() {
    Cancellation cancellation;
    ASSIGN_OR_RETURN(const ObjectVersion version, Stat());
    return source_->Checksums(version, Source::PartSizes::kInferred, {}, cancellation);
  }

  // Two at once.
  void StatTwice() {
    absl::Status first;
    std::thread other([&] { first = Stat("first").status(); });
    EXPECT_EQ(Stat("second").status(), absl::OkStatus());
    other.join();
    EXPECT_EQ(first, absl::OkStatus());
  }

  size_t Count(const std::function<bool(const ServiceRequest&)>& kind) const {
    const std::vector<ServiceRequest> requests = server_->requests();
    return static_cast<size_t>(std::count_if(requests.begin(), requests.end(), kind));
  }

  std::unique_ptr<HandlerServer> server_;
  std::unique_ptr<Source> source_;
};

TEST_F(S3LessonsTest, ARequestSignedForAnotherRegionBeforeTheLessonIsSignedAgain) {
  Serve([this](const ServiceRequest& request) {
    if (IsSignedFor(request, "eu")) {
      return Right(request);
    }
    EXPECT_TRUE(server_->AwaitRequests(2));
    return Elsewhere("eu");
  });
  StatTwice();
  EXPECT_EQ(server_->requests().size(), 4u);
}

TEST_F(S3LessonsTest, ARequestSignedAtAnotherTimeBeforeTheLessonIsSignedAgain) {
  const absl::Time theirs = absl::Now() + absl::Hours(2);
  Serve([this, theirs](const ServiceRequest& request) {
    if (IsSignedAt(request, theirs)) {
      return Right(request);
    }
    EXPECT_TRUE(server_->AwaitRequests(2));
    return Skewed(theirs);
  });
  StatTwice();
  EXPECT_EQ(server_->requests().size(), 4u);
}

TEST_F(S3LessonsTest, AnOldLessonThatComesLateUndoesNoNewerOne) {
  absl::Notification second_may_learn;
  Serve([&](const ServiceRequest& request) {
    if (IsSignedFor(request, "new")) {
      return Right(request);
    }
    EXPECT_TRUE(server_->AwaitRequests(2));
    if (IsSignedFor(request, "old")) {
      return Elsewhere("new");
    }
    if (absl::StrContains(request.path, "second")) {
      second_may_learn.WaitForNotification();
    }
    return Elsewhere("old");
  });
  absl::Status second;
  std::thread other([&] { second = Stat("second").status(); });
  EXPECT_EQ(Stat("first").status(), absl::OkStatus());
  second_may_learn.Notify();
  other.join();
  EXPECT_EQ(second, absl::OkStatus());
  EXPECT_EQ(Count([](const auto& request) { return IsSignedFor(request, "old"); }), 1u);
}

TEST_F(S3LessonsTest, AnOldTimeThatComesLateUndoesNoNewerOne) {
  const absl::Time old = absl::Now() + absl::Hours(2);
  const absl::Time now = absl::Now() + absl::Hours(4);
  absl::Notification second_may_learn;
  Serve([&](const ServiceRequest& request) {
    if (IsSignedAt(request, now)) {
      return Right(request);
    }
    EXPECT_TRUE(server_->AwaitRequests(2));
    if (IsSignedAt(request, old)) {
      return Skewed(now);
    }
    if (absl::StrContains(request.path, "second")) {
      second_may_learn.WaitForNotification();
    }
    return Skewed(old);
  });
  absl::Status second;
  std::thread other([&] { second = Stat("second").status(); });
  EXPECT_EQ(Stat("first").status(), absl::OkStatus());
  second_may_learn.Notify();
  other.join();
  EXPECT_EQ(second, absl::OkStatus());
  EXPECT_EQ(Count([&](const auto& request) { return IsSignedAt(request, old); }), 1u);
}

TEST_F(S3LessonsTest, AHeadWithoutABodyTeachesTheRegionByItsHeader) {
  Serve([](const ServiceRequest& request) {
    ServiceReply reply = Right(request);
    if (request.method == "HEAD" && !IsSignedFor(request, "eu")) {
      reply = {.status = 400, .headers = {"x-amz-bucket-region: eu"}};
    }
    return reply;
  });
  const auto checksums = Checksums();
  ASSERT_TRUE(checksums.ok()) << checksums.status();
  EXPECT_THAT(*checksums, SizeIs(1));
  EXPECT_EQ(Count([](const auto& request) { return request.method == "GET"; }), 1u);
}

TEST_F(S3LessonsTest, AHeadWithoutABodyTeachesTheTimeByItsDate) {
  const absl::Time theirs = absl::Now() - absl::Hours(2);
  Serve([theirs](const ServiceRequest& request) {
    return request.method == "HEAD" && !IsSignedAt(request, theirs) ? Skewed(theirs)
                                                                    : Right(request);
  });
  const auto checksums = Checksums();
  ASSERT_TRUE(checksums.ok()) << checksums.status();
  EXPECT_THAT(*checksums, SizeIs(1));
  EXPECT_EQ(Count([](const auto& request) { return request.method == "GET"; }), 1u);
}

// The answer to a HEAD has no body, so none of these says its code.
TEST_F(S3LessonsTest, WhatAHeadDoesNotSayAGetIsAskedFor) {
  for (const ServiceReply& refusal :
       {Elsewhere("eu"), ServiceReply{.status = 301, .body = Elsewhere("eu").body}}) {
    std::atomic<bool> moved = false;
    Serve([&](const ServiceRequest& request) {
      moved = moved || request.method == "HEAD";
      return moved && !IsSignedFor(request, "eu") ? refusal : Right(request);
    });
    const auto checksums = Checksums();
    ASSERT_TRUE(checksums.ok()) << checksums.status();
    EXPECT_THAT(*checksums, SizeIs(1)) << refusal.status;
  }
}

TEST_F(S3LessonsTest, AQuestionForChecksumsThatFailsIsNoStoreWithout) {
  for (const auto& [refusal, reason] :
       {std::pair(S3ErrorReply(403, "AccessDenied"), Reason::kSourceDenied),
        {S3ErrorReply(400, "ExpiredToken"), Reason::kSourceDenied},
        {Elsewhere("us-east-1"), Reason::kSourceProtocol},
        {ServiceReply{.status = 301}, Reason::kSourceProtocol}}) {
    std::atomic<bool> refuses = false;
    Serve([&](const ServiceRequest& request) {
      refuses = refuses || request.method == "HEAD";
      return refuses ? refusal : Right(request);
    });
    EXPECT_EQ(ReasonOf(Checksums().status()), reason) << refusal.body;
  }
}

}  // namespace
}  // namespace weightd::source
