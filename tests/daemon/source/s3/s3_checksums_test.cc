// What S3 says of checksums, and what is asked to find it out.

#include "daemon/source/s3/s3_checksums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/s3/s3_source.h"
#include "daemon/source/source.h"
#include "tests/servers/handler_server.h"

namespace weightd::source {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr absl::string_view kCrc32 = "y/Q5Jg==";
constexpr absl::string_view kCrc64 = "rosUhgp5mIg=";

Answer AnswerOf(std::vector<std::string> lines) {
  Answer answer;
  answer.AddLine("HTTP/1.1 200 OK\r\n");
  for (const std::string& line : lines) {
    answer.AddLine(line);
  }
  return answer;
}

TEST(StatedChecksums, AreTakenWithTheirType) {
  const auto whole = StatedChecksums(AnswerOf(
      {absl::StrCat("x-amz-checksum-crc64nvme: ", kCrc64), "x-amz-checksum-type: FULL_OBJECT"}));
  ASSERT_THAT(whole, SizeIs(1));
  EXPECT_EQ(whole[0].kind, ChecksumKind::kCrc64Nvme);
  EXPECT_EQ(whole[0].checksum.parts, 0u);
  const auto composite = StatedChecksums(AnswerOf(
      {absl::StrCat("X-Amz-Checksum-Crc32: ", kCrc32, "-7"), "x-amz-checksum-type: COMPOSITE"}));
  ASSERT_THAT(composite, SizeIs(1));
  EXPECT_EQ(composite[0].kind, ChecksumKind::kCrc32);
  EXPECT_EQ(composite[0].checksum.parts, 7u);
}

TEST(StatedChecksums, WithoutTypeAreTakenWhereTheyAreClear) {
  const std::string crc32 = absl::StrCat("x-amz-checksum-crc32: ", kCrc32);
  EXPECT_THAT(StatedChecksums(AnswerOf({crc32, "ETag: \"abc\""})), SizeIs(1));
  EXPECT_THAT(StatedChecksums(AnswerOf({crc32 + "-2", "ETag: \"abc-2\""})), SizeIs(1));
  EXPECT_THAT(StatedChecksums(AnswerOf({crc32, "ETag: \"abc-2\""})), IsEmpty());
  EXPECT_THAT(StatedChecksums(AnswerOf(
                  {absl::StrCat("x-amz-checksum-crc64nvme: ", kCrc64), "ETag: \"abc-2\""})),
              SizeIs(1));
}

TEST(StatedChecksums, WhatContradictsItselfOrIsNoneSaysNothing) {
  const std::string crc32 = absl::StrCat("x-amz-checksum-crc32: ", kCrc32);
  for (const std::vector<std::string>& lines :
       std::vector<std::vector<std::string>>{{},
                                             {"x-amz-checksum-type: FULL_OBJECT"},
                                             {crc32, "x-amz-checksum-type: COMPOSITE"},
                                             {crc32 + "-2", "x-amz-checksum-type: FULL_OBJECT"},
                                             {crc32, "x-amz-checksum-type: SOMETHING"},
                                             {"x-amz-checksum-crc32: nonsense"},
                                             {absl::StrCat("x-amz-checksum-md5: ", kCrc32)}}) {
    EXPECT_THAT(StatedChecksums(AnswerOf(lines)), IsEmpty());
  }
}

TEST(InferPartSizes, WhereAllButTheLastAreEqual) {
  EXPECT_THAT(*InferPartSizes(25, 3, 10), ElementsAre(10, 10, 5));
  EXPECT_THAT(*InferPartSizes(30, 3, 10), ElementsAre(10, 10, 10));
  EXPECT_THAT(*InferPartSizes(10, 1, 10), ElementsAre(10));
  EXPECT_EQ(InferPartSizes(20, 3, 10), std::nullopt);
  EXPECT_EQ(InferPartSizes(31, 3, 10), std::nullopt);
  EXPECT_EQ(InferPartSizes(5, 1, 10), std::nullopt);
  EXPECT_EQ(InferPartSizes(5, 1, 0), std::nullopt);
  EXPECT_EQ(InferPartSizes(5, 0, 5), std::nullopt);
}

// A store with one object, in parts of the sizes given, that keeps a composite CRC-32C.
class ChecksumStore {
 public:
  explicit ChecksumStore(std::vector<uint64_t> sizes) : sizes_(std::move(sizes)) {
    uint64_t size = 0;
    for (const uint64_t part : sizes_) {
      size += part;
    }
    object_ = std::string(size, 'x');
  }

  ServiceReply Answer(const ServiceRequest& request) const {
    ServiceReply reply;
    reply.headers = {"ETag: \"abc-3\"", "Last-Modified: Sat, 21 Nov 2026 12:00:00 GMT"};
    if (const std::string etag = request.Header("if-match"); !etag.empty() && etag != "\"abc-3\"") {
      reply.status = 412;
      return reply;
    }
    const size_t number = request.path.find("partNumber=");
    uint32_t part = 0;
    if (number != std::string::npos &&
        absl::SimpleAtoi(request.path.substr(number + 11, request.path.find('&') - number - 11),
                         &part)) {
      reply.status = 206;
      reply.headers.push_back(absl::StrCat("x-amz-mp-parts-count: ", sizes_.size()));
      reply.body.assign(sizes_.at(part - 1), 'x');
      return reply;
    }
    if (request.Header("x-amz-checksum-mode") == "ENABLED") {
      reply.headers.push_back(absl::StrCat("x-amz-checksum-crc32c: ", kCrc32, "-", sizes_.size()));
      reply.headers.emplace_back("x-amz-checksum-type: COMPOSITE");
      reply.body = object_;
    } else {  // Stat's first byte
      reply.status = 206;
      reply.headers.push_back(absl::StrCat("Content-Range: bytes 0-0/", object_.size()));
      reply.body = "x";
    }
    return reply;
  }

 private:
  const std::vector<uint64_t> sizes_;
  std::string object_;
};

class S3ChecksumsTest : public testing::Test {
 protected:
  using Sizes = Source::PartSizes;

  absl::StatusOr<std::vector<Checksum>> Ask(HandlerServer::Handler handler, Sizes part_sizes,
                                            absl::string_view query = "") {
    server_ = std::make_unique<HandlerServer>(std::move(handler));
    S3SourceOptions options;
    options.http.attempts = 2;
    S3StoreOptions store;
    store.location = {.endpoint = server_->Url(), .region = "us-east-1"};
    store.buckets = {"bucket"};
    options.stores.push_back(std::move(store));
    const std::unique_ptr<Source> source = *MakeS3Source(std::move(options));
    Cancellation cancellation;
    ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(absl::StrCat("s3://bucket/key", query)));
    ASSIGN_OR_RETURN(const ObjectVersion version, source->Stat(uri, {}, cancellation));
    return source->Checksums(version, part_sizes, {}, cancellation);
  }

  static HandlerServer::Handler Of(const ChecksumStore& store) {
    return [&store](const ServiceRequest& request) { return store.Answer(request); };
  }

  std::vector<std::string> HeadPaths() const {
    std::vector<std::string> paths;
    for (const ServiceRequest& request : server_->requests()) {
      if (request.method == "HEAD") {
        EXPECT_EQ(request.Header("x-amz-checksum-mode"), "ENABLED");
        EXPECT_EQ(request.Header("if-match"), "\"abc-3\"");
        paths.push_back(request.path);
      }
    }
    return paths;
  }

  std::unique_ptr<HandlerServer> server_;
};

TEST_F(S3ChecksumsTest, EqualPartsTakeTwoQuestions) {
  const ChecksumStore store({1000, 1000, 1});
  const auto checksums = Ask(Of(store), Sizes::kInferred, "?versionId=v7");
  ASSERT_TRUE(checksums.ok()) << checksums.status();
  ASSERT_THAT(*checksums, SizeIs(1));
  EXPECT_EQ(checksums->front().kind, ChecksumKind::kCrc32c);
  EXPECT_EQ(ToS3(checksums->front()), absl::StrCat(kCrc32, "-3"));
  EXPECT_THAT(checksums->front().part_sizes, ElementsAre(1000, 1000, 1));
  EXPECT_THAT(HeadPaths(),
              ElementsAre("/bucket/key?versionId=v7", "/bucket/key?versionId=v7&partNumber=1"));
}

TEST_F(S3ChecksumsTest, UnlikePartsAreAskedForOneByOne) {
  const ChecksumStore store({1000, 2000, 500});
  for (const Sizes sizes : {Sizes::kInferred, Sizes::kAsked}) {
    const auto checksums = Ask(Of(store), sizes);
    ASSERT_TRUE(checksums.ok()) << checksums.status();
    ASSERT_THAT(*checksums, SizeIs(1));
    EXPECT_THAT(checksums->front().part_sizes, ElementsAre(1000, 2000, 500));
    EXPECT_THAT(HeadPaths(), SizeIs(4));
  }
}

TEST_F(S3ChecksumsTest, PartsThatOnlyLookEqualAreFoundOutWhenAskedFor) {
  const ChecksumStore store({1000, 500, 1000});
  EXPECT_THAT(Ask(Of(store), Sizes::kInferred)->front().part_sizes, ElementsAre(1000, 1000, 500));
  EXPECT_THAT(Ask(Of(store), Sizes::kAsked)->front().part_sizes, ElementsAre(1000, 500, 1000));
}

TEST_F(S3ChecksumsTest, StoresThatDoNotKnowTheQuestionSayNothing) {
  const ChecksumStore store({1000, 1000, 1});
  for (const int status : {400, 403, 405, 501}) {
    const auto checksums = Ask(
        [&](const ServiceRequest& request) {
          ServiceReply reply = store.Answer(request);
          if (request.method == "HEAD") {
            reply.status = status;
          }
          return reply;
        },
        Sizes::kInferred);
    ASSERT_TRUE(checksums.ok()) << checksums.status();
    EXPECT_THAT(*checksums, IsEmpty()) << status;
  }
  // Knows checksums, but no parts.
  const auto checksums = Ask(
      [&](ServiceRequest request) {
        request.path = "/bucket/key";
        return store.Answer(request);
      },
      Sizes::kInferred);
  ASSERT_TRUE(checksums.ok()) << checksums.status();
  EXPECT_THAT(*checksums, IsEmpty());
}

TEST_F(S3ChecksumsTest, AnotherVersionIsSaidSo) {
  const ChecksumStore store({1000, 1000, 1});
  for (const auto& spoil : std::vector<std::function<void(ServiceReply&)>>{
           [](ServiceReply& reply) { reply.status = 412; },
           [](ServiceReply& reply) { reply.headers[0] = "ETag: \"other\""; }}) {
    const auto checksums = Ask(
        [&](const ServiceRequest& request) {
          ServiceReply reply = store.Answer(request);
          if (request.method == "HEAD") {
            spoil(reply);
          }
          return reply;
        },
        Sizes::kInferred);
    EXPECT_EQ(ReasonOf(checksums.status()), Reason::kSourceChanged);
  }
}

TEST_F(S3ChecksumsTest, AStoreThatFailsIsAnError) {
  const ChecksumStore store({1000, 1000, 1});
  const auto checksums = Ask(
      [&](const ServiceRequest& request) {
        ServiceReply reply = store.Answer(request);
        if (request.method == "HEAD") {
          reply.status = 503;
        }
        return reply;
      },
      Sizes::kInferred);
  EXPECT_EQ(ReasonOf(checksums.status()), Reason::kSourceUnavailable);
}

}  // namespace
}  // namespace weightd::source
