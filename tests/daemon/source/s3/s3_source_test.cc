// S3 against a server that answers by script: what a store says about regions, clocks and
// credentials.

#include "daemon/source/s3/s3_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "daemon/source/s3/s3_store.h"
#include "tests/servers/fault_http_server.h"

namespace weightd::source {
namespace {

using testing::HasSubstr;
using testing::Not;

// Numbered credentials; each Invalidate() makes the next ones, if they are renewed at all.
class FakeCredentials final : public CredentialProvider {
 public:
  explicit FakeCredentials(bool renewed = true) : renewed_(renewed) {}

  absl::StatusOr<std::optional<Credentials>> Get(Cancellation&) override {
    return Credentials{.access_key_id = absl::StrCat("key", number_.load()),
                       .secret_access_key = "hidden",
                       .session_token = absl::StrCat("token", number_.load()),
                       .kind = "a test (/etc/secret)"};
  }
  void Invalidate(const Credentials&) override { number_ += renewed_ ? 1 : 0; }

 private:
  const bool renewed_;
  std::atomic<int> number_ = 1;
};

Reply ErrorReply(int status, const std::string& code, const std::string& more = "") {
  Reply reply = Reply::Status(status);
  reply.body = absl::StrCat("<?xml version=\"1.0\"?><Error><Code>", code,
                            "</Code><Message>inner words</Message>", more, "</Error>");
  return reply;
}

class S3SourceTest : public testing::Test {
 protected:
  S3SourceTest() { Make(std::make_shared<FakeCredentials>()); }

  void Make(std::shared_ptr<CredentialProvider> credentials, bool requester_pays = false) {
    S3SourceOptions options;
    options.elsewhere.region = "us-east-1";
    options.http.attempts = 3;
    S3StoreOptions store;
    store.location = {.endpoint = server_.Url(""), .region = "us-east-1"};
    store.buckets = {"bucket"};
    store.credentials = std::move(credentials);
    store.requester_pays = requester_pays;
    options.stores.push_back(std::move(store));
    source_ = *MakeS3Source(std::move(options));
  }

  absl::Status Stat(const std::string& uri = "s3://bucket/folder/key") {
    Cancellation cancellation;
    const absl::Status status =
        source_->Stat(*Uri::Parse(uri), ReadPolicy(), cancellation).status();
    EXPECT_THAT(status.ToString(), Not(HasSubstr("inner words")));
    EXPECT_THAT(status.ToString(), Not(HasSubstr("hidden")));
    return status;
  }

  std::string LastRequest() const { return server_.requests().back(); }

  FaultHttpServer server_{std::string(1000, 'x')};
  std::unique_ptr<Source> source_;
};

TEST_F(S3SourceTest, RequestsAreSignedAndTheKeyIsInThePath) {
  EXPECT_EQ(Stat("s3://bucket/a b+c/key?versionId=v1"), absl::OkStatus());
  EXPECT_THAT(LastRequest(), HasSubstr("GET /bucket/a%20b%2Bc/key?versionId=v1 HTTP/1.1"));
  EXPECT_THAT(LastRequest(), HasSubstr("Credential=key1/"));
  EXPECT_THAT(LastRequest(), HasSubstr("/us-east-1/s3/aws4_request"));
  EXPECT_THAT(LastRequest(), testing::ContainsRegex("[Xx]-[Aa]mz-[Ss]ecurity-[Tt]oken: token1"));
}

TEST_F(S3SourceTest, WithoutCredentialsNothingIsSigned) {
  Make(nullptr);
  EXPECT_EQ(Stat(), absl::OkStatus());
  EXPECT_THAT(LastRequest(), Not(HasSubstr("Authorization")));
}

TEST_F(S3SourceTest, WhoPaysSaysSo) {
  Make(std::make_shared<FakeCredentials>(), /*requester_pays=*/true);
  EXPECT_EQ(Stat(), absl::OkStatus());
  EXPECT_THAT(LastRequest(), HasSubstr("x-amz-request-payer: requester"));
  EXPECT_THAT(LastRequest(), HasSubstr(";x-amz-request-payer;"));
}

TEST_F(S3SourceTest, AnotherRegionIsSignedForAndRemembered) {
  server_.Script({ErrorReply(400, "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>")});
  EXPECT_EQ(Stat(), absl::OkStatus());
  EXPECT_THAT(LastRequest(), HasSubstr("/eu-west-3/s3/aws4_request"));
  const size_t before = server_.requests().size();
  EXPECT_EQ(Stat(), absl::OkStatus());
  EXPECT_EQ(server_.requests().size(), before + 1);
  EXPECT_THAT(LastRequest(), HasSubstr("/eu-west-3/s3/aws4_request"));
}

TEST_F(S3SourceTest, ARedirectNamesARegionAndIsNeverFollowed) {
  Reply redirect = Reply::RedirectTo("http://169.254.169.254/bucket/key");
  redirect.status = 301;
  redirect.headers.push_back({"x-amz-bucket-region", "ap-south-1"});
  server_.Script({redirect});
  EXPECT_EQ(Stat(), absl::OkStatus());
  EXPECT_THAT(LastRequest(), HasSubstr("/ap-south-1/s3/aws4_request"));
  server_.Script({}, Reply::RedirectTo(server_.Url("/elsewhere")));
  EXPECT_EQ(ReasonOf(Stat()), Reason::kSourceProtocol);
  EXPECT_THAT(LastRequest(), Not(HasSubstr("elsewhere")));
}

TEST_F(S3SourceTest, ARegionThatSendsBackAndForthEnds) {
  const Reply there = ErrorReply(400, "AuthorizationHeaderMalformed", "<Region>there</Region>");
  const Reply back = ErrorReply(400, "AuthorizationHeaderMalformed", "<Region>back</Region>");
  server_.Script({there, back, there, back, there, back, there, back});
  EXPECT_FALSE(Stat().ok());
}

TEST_F(S3SourceTest, AStoreWhoseClockIsAheadIsSignedForItsTime) {
  const absl::Time theirs = absl::Now() + absl::Hours(2);
  Reply skewed = ErrorReply(403, "RequestTimeTooSkewed");
  skewed.headers.push_back(
      {"Date", absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", theirs, absl::UTCTimeZone())});
  server_.Script({skewed});
  EXPECT_EQ(Stat(), absl::OkStatus());
  EXPECT_THAT(LastRequest(), HasSubstr(absl::FormatTime("%Y%m%dT%H", theirs, absl::UTCTimeZone())));
}

TEST_F(S3SourceTest, CredentialsThatEndedAreReplaced) {
  server_.Script({ErrorReply(400, "ExpiredToken")});
  EXPECT_EQ(Stat(), absl::OkStatus());
  EXPECT_THAT(LastRequest(), HasSubstr("Credential=key2/"));
}

TEST_F(S3SourceTest, CredentialsThatEndedForGoodAreRefusedByTheirKind) {
  Make(std::make_shared<FakeCredentials>(/*renewed=*/false));
  server_.Script({}, ErrorReply(400, "ExpiredToken"));
  const absl::Status status = Stat();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("credentials from a test (400 Expired"));
  EXPECT_EQ(server_.requests().size(), 2u) << "a key that was refused may have been replaced";
  EXPECT_EQ(ReasonOf(Stat()), Reason::kSourceDenied);
  EXPECT_EQ(server_.requests().size(), 3u) << "nobody asks for the same key again";
  server_.Script({});
  EXPECT_EQ(Stat(), absl::OkStatus());
}

TEST_F(S3SourceTest, ARefusalNamesTheKindOfCredentials) {
  server_.Script({}, ErrorReply(403, "InvalidAccessKeyId"));
  const absl::Status status = Stat();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("credentials from a test"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("InvalidAccessKeyId"));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("key1")));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("/etc/secret")));
}

TEST_F(S3SourceTest, ARefusalWithoutACodeIsWrittenWithout) {
  for (const int status : {403, 401}) {
    server_.Script({}, Reply::Status(status));
    EXPECT_THAT(std::string(Stat().message()),
                testing::EndsWith(absl::StrCat("credentials from a test (", status, ")")));
  }
}

TEST_F(S3SourceTest, OtherErrorsHaveTheirReasons) {
  const std::vector<std::pair<Reply, Reason>> cases = {
      {ErrorReply(404, "NoSuchBucket"), Reason::kModelNotFound},
      {ErrorReply(404, "NoSuchKey"), Reason::kModelNotFound},
      {ErrorReply(403, "InvalidObjectState"), Reason::kSourceDenied},
      {ErrorReply(503, "SlowDown"), Reason::kSourceUnavailable},
      {ErrorReply(400, "InvalidRequest"), Reason::kSourceProtocol},
  };
  for (const auto& [reply, reason] : cases) {
    server_.Script({}, reply);
    EXPECT_EQ(ReasonOf(Stat()), reason) << *reply.body;
  }
  server_.Script({ErrorReply(400, "RequestTimeout"), ErrorReply(503, "SlowDown")});
  EXPECT_EQ(Stat(), absl::OkStatus());
}

TEST_F(S3SourceTest, AListingWithoutAnEndEnds) {
  Reply part = Reply::Status(200);
  part.body =
      "<ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated>"
      "<NextContinuationToken>again</NextContinuationToken></ListBucketResult>";
  server_.Script({}, part);
  Cancellation cancellation;
  const absl::Status status =
      source_->List(*Uri::Parse("s3://bucket/folder/"), ReadPolicy(), cancellation).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceProtocol);
  EXPECT_LE(server_.requests().size(), 200u);
  EXPECT_THAT(LastRequest(), HasSubstr("continuation-token=again&delimiter=%2F"));
}

TEST_F(S3SourceTest, AListingThatNamesAFileTwiceNamesOne) {
  Reply part = Reply::Status(200);
  const std::string object = "<Contents><Key>folder/a</Key><Size>1</Size><ETag>x</ETag></Contents>";
  part.body = absl::StrCat("<ListBucketResult><IsTruncated>false</IsTruncated>", object, object,
                           "</ListBucketResult>");
  server_.Script({part});
  Cancellation cancellation;
  EXPECT_THAT(*source_->List(*Uri::Parse("s3://bucket/folder/"), ReadPolicy(), cancellation),
              testing::ElementsAre("a"));
}

TEST_F(S3SourceTest, AListingNamesKeysThatNoUriNames) {
  Reply part = Reply::Status(200);
  part.body =
      "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
      "<Contents><Key>folder/</Key><Size>0</Size><ETag>x</ETag></Contents>"
      "<Contents><Key>folder/a%0A</Key><Size>1</Size><ETag>x</ETag></Contents>"
      "<Contents><Key>folder/..</Key><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>";
  server_.Script({part});
  Cancellation cancellation;
  EXPECT_THAT(*source_->List(*Uri::Parse("s3://bucket/folder/"), ReadPolicy(), cancellation),
              testing::ElementsAre("..", "a\n"));
}

TEST_F(S3SourceTest, AMissingBucketIsNamed) {
  server_.Script({}, ErrorReply(404, "NoSuchBucket"));
  Cancellation cancellation;
  const absl::Status status =
      source_->List(*Uri::Parse("s3://bucket/folder/"), ReadPolicy(), cancellation).status();
  EXPECT_EQ(ReasonOf(status), Reason::kModelNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("s3://bucket/: there is no such bucket"));
}

TEST_F(S3SourceTest, AListingNamesNoMoreThanAnybodyStores) {
  Reply part = Reply::Status(200);
  part.body =
      "<ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated>"
      "<NextContinuationToken>again</NextContinuationToken>";
  for (int i = 0; i < 40'000; ++i) {
    absl::StrAppend(&*part.body, "<Contents><Key>folder/", i,
                    "</Key><Size>1</Size><ETag>x</ETag></Contents>");
  }
  absl::StrAppend(&*part.body, "</ListBucketResult>");
  server_.Script({}, part);
  Cancellation cancellation;
  const absl::Status status =
      source_->List(*Uri::Parse("s3://bucket/folder/"), ReadPolicy(), cancellation).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceProtocol);
  EXPECT_EQ(server_.requests().size(), 3u);
}

TEST(S3StoreTest, TheClosestNameWins) {
  const std::vector<std::vector<std::string>> lists = {
      {"*"}, {"bucket"}, {"bucket/team/", "other/x"}};
  const auto choose = [&](const char* uri) { return ChooseStore(lists, *Uri::Parse(uri)); };
  EXPECT_EQ(choose("s3://bucket/team/key"), 2);
  EXPECT_EQ(choose("s3://bucket/teams/key"), 1);
  EXPECT_EQ(choose("s3://bucket2/key"), 0);
  EXPECT_EQ(choose("s3://other/x"), 2);
  EXPECT_EQ(ChooseStore({}, *Uri::Parse("s3://bucket/key")), -1);
}

std::string UrlOf(const S3Location& location, const std::string& uri) {
  const absl::StatusOr<Hop> hop = LocateObject(location, *Uri::Parse(uri));
  return hop.ok() ? hop->url : std::string(hop.status().message());
}

TEST(S3StoreTest, AnObjectIsAskedForWhereItsStoreIs) {
  EXPECT_EQ(UrlOf({.endpoint = "", .region = "eu-west-1"}, "s3://bucket/a/k"),
            "https://bucket.s3.eu-west-1.amazonaws.com/a/k");
  EXPECT_EQ(UrlOf({.endpoint = "", .region = "cn-north-1"}, "s3://bucket/k"),
            "https://bucket.s3.cn-north-1.amazonaws.com.cn/k");
  // No certificate of AWS' covers a name with dots before it.
  EXPECT_EQ(UrlOf({.endpoint = "", .region = "eu-west-1"}, "s3://my.bucket/k"),
            "https://s3.eu-west-1.amazonaws.com/my.bucket/k");
  EXPECT_EQ(UrlOf({.endpoint = "https://store:8443/", .region = "r"}, "s3://bucket/k"),
            "https://store:8443/bucket/k");
  EXPECT_EQ(UrlOf({.endpoint = "http://store", .region = "r", .style = S3Style::kVirtual},
                  "s3://bucket/k"),
            "http://bucket.store/k");
}

TEST(S3StoreTest, AnEndpointIsAHost) {
  for (const char* endpoint : {"https://me:secret@store", "https://store/path", "https://store?q",
                               "ftp://store", "store", "https://", "https://h h"}) {
    const absl::Status status =
        LocateObject({.endpoint = endpoint, .region = "r"}, *Uri::Parse("s3://bucket/k")).status();
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << endpoint;
    EXPECT_THAT(status.ToString(), Not(HasSubstr("secret")));
  }
}

}  // namespace
}  // namespace weightd::source
