// Uploads to a store that fails, lies, or loses its answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "tests/daemon/source/s3/s3_upload_fixture.h"

namespace weightd::source {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

INSTANTIATE_TEST_SUITE_P(Stores, S3UploadTest, testing::Bool(), [](const auto& info) {
  return info.param ? "WithChecksums" : "WithoutChecksums";
});

TEST_P(S3UploadTest, WhatMayPassIsTriedAgain) {
  store_.SetFault(FirstFail(2, IsPart, S3ErrorReply(503, "SlowDown")));
  EXPECT_EQ(Upload({File("a", Bytes(kLarge, 'a'))}), absl::OkStatus());
  store_.SetFault(FirstFail(1, IsPart, S3ErrorReply(400, "XAmzContentSHA256Mismatch")));
  EXPECT_EQ(Upload({File("b", Bytes(kLarge, 'b'))}), absl::OkStatus());
  store_.SetFault(FirstFail(1, IsPart, S3ErrorReply(400, "RequestTimeout")));
  EXPECT_EQ(Upload({File("c", Bytes(kLarge, 'c'))}), absl::OkStatus());
  EXPECT_EQ(store_.objects()["m/c"], Bytes(kLarge, 'c'));
}

TEST_P(S3UploadTest, AnErrorMayComeAfterTheStatus) {
  store_.SetFault(FirstFail(1, IsCompletion, S3ErrorReply(200, "InternalError")));
  EXPECT_EQ(Upload({File("a", Bytes(kLarge, 'a'))}), absl::OkStatus());
  EXPECT_EQ(Count(IsCompletion), 2u);
  store_.SetFault(FirstFail(1, IsCompletion, S3ErrorReply(200, "InvalidPart")));
  const absl::Status status = Upload({File("b", Bytes(kLarge, 'b'))});
  EXPECT_EQ(ReasonOf(status), Reason::kSourceProtocol);
  EXPECT_THAT(std::string(status.message()), HasSubstr("InvalidPart"));
  EXPECT_FALSE(store_.objects().contains("m/b"));
  EXPECT_THAT(store_.uploads(), IsEmpty());
}

TEST_P(S3UploadTest, ACompletionWithoutSenseIsNone) {
  store_.SetFault(FirstFail(1, IsCompletion, {.body = "<html>welcome</html>"}));
  EXPECT_EQ(ReasonOf(Upload({File("a", Bytes(kLarge, 'a'))})), Reason::kSourceProtocol);
  EXPECT_THAT(store_.objects(), IsEmpty());
  EXPECT_THAT(store_.uploads(), IsEmpty());
}

TEST_P(S3UploadTest, AnswersWithoutSenseNameFileUriAndOperation) {
  const FileToUpload file = File("a", Bytes(kLarge, 'a'));
  const auto begins = [](const ServiceRequest& request) { return request.method == "POST"; };
  for (const auto& [kind, operation] :
       {std::pair<bool (*)(const ServiceRequest&), std::string>(begins, "CreateMultipartUpload"),
        {IsCompletion, "CompleteMultipartUpload"}}) {
    store_.SetFault(FirstFail(1, kind, {.body = "<html>welcome</html>"}));
    const absl::Status status = Upload({file});
    EXPECT_EQ(ReasonOf(status), Reason::kSourceProtocol);
    for (const std::string& part : {file.path, std::string("s3://bucket/m/a"), operation}) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    }
    EXPECT_THAT(status.ToString(), Not(HasSubstr("ListObjectsV2")));
  }
}

TEST_P(S3UploadTest, WhatAStoreSaysReachesNoTerminal) {
  const FileToUpload file = File("a", Bytes(kLarge, 'a'));
  store_.SetFault(FirstFail(1, IsPart, {.headers = {"ETag: \"\x1b[2J\""}}));
  EXPECT_EQ(ReasonOf(Upload({file})), Reason::kSourceProtocol);
  for (const char* const code : {"\x1b[2J",
                                 "\xc2\x9b"
                                 "2J",
                                 "line\nbreak"}) {
    store_.SetFault(FirstFail(9, IsPart, S3ErrorReply(403, code)));
    EXPECT_EQ(ReasonOf(Upload({file})), Reason::kSourceDenied);
  }
}

TEST_P(S3UploadTest, AStoreThatTookOtherBytesIsFoundOut) {
  const auto is_put = [](const ServiceRequest& request) { return request.method == "PUT"; };
  const std::string other = absl::StrCat(std::string(43, 'A'), "=");
  const ServiceReply took_other = {.headers = {"ETag: \"x\"", "x-amz-checksum-sha256: " + other}};
  const ServiceReply made_other = {
      .body = absl::StrCat("<CompleteMultipartUploadResult><ETag>x</ETag><ChecksumSHA256>", other,
                           "-3</ChecksumSHA256></CompleteMultipartUploadResult>")};
  const std::vector<std::pair<FileToUpload, MemoryS3::Fault>> cases = {
      {File("small", "bytes"), FirstFail(1, is_put, took_other)},
      {File("large", Bytes(kLarge, 'a')), FirstFail(1, IsPart, took_other)},
      {File("larger", Bytes(kLarge, 'b')), FirstFail(1, IsCompletion, made_other)}};
  for (const auto& [file, fault] : cases) {
    store_.SetFault(fault);
    const absl::Status status = Upload({file});
    EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file.path));
    EXPECT_THAT(std::string(status.message()), HasSubstr(file.object.Redacted()));
  }
}

TEST_P(S3UploadTest, ACompletionWhoseAnswerWasLostIsRecognised) {
  const std::string large = Bytes(kLarge, 'a');
  const FileToUpload file = File("a", large);
  ASSERT_EQ(Upload({file}), absl::OkStatus());
  // The object is there, its upload isn't: as after a completion that nobody heard of.
  const auto is_first_head = [heads = std::make_shared<std::atomic<int>>(0)](
                                 const ServiceRequest& request) -> std::optional<ServiceReply> {
    if (request.method == "HEAD" && (*heads)++ == 0) {
      return S3ErrorReply(404, "NoSuchKey");
    }
    return IsCompletion(request) ? std::make_optional(S3ErrorReply(404, "NoSuchUpload"))
                                 : std::nullopt;
  };
  store_.SetFault(is_first_head);
  EXPECT_EQ(Upload({file}), absl::OkStatus());
}

// The store completes the upload, and what it says of that is lost: `count` times, by a failure of
// the store or by silence. From then on there is no such upload.
TEST_P(S3UploadTest, ACompletionWhoseAnswersAreLostIsRecognised) {
  const ServiceReply closes = {.closes = true};
  int number = 0;
  for (const ServiceReply& loss :
       {S3ErrorReply(503, "SlowDown"), S3ErrorReply(500, "InternalError"),
        S3ErrorReply(200, "InternalError"), closes}) {
    for (const int count : {1, 99}) {
      const std::string large = Bytes(kLarge, static_cast<char>('a' + ++number));
      store_.SetLoss(FirstFail(count, IsCompletion, loss));
      EXPECT_EQ(Upload({File("a", large)}), absl::OkStatus()) << loss.status << " " << count;
      EXPECT_EQ(store_.objects()["m/a"], large);
    }
  }
}

TEST_P(S3UploadTest, ACompletionWhoseAnswerWasLostIsRecognisedByItsChecksumAlone) {
  store_.HideDigests();
  store_.SetLoss(FirstFail(1, IsCompletion, S3ErrorReply(503, "SlowDown")));
  // Where the store keeps none, nothing tells whose object it is.
  EXPECT_EQ(ReasonOf(Upload({File("a", Bytes(kLarge, 'a'))})),
            GetParam() ? Reason::kUnspecified : Reason::kSourceChanged);
}

TEST_P(S3UploadTest, ALostCompletionIsNotTakenForAnotherObject) {
  store_.SetLoss([this, loses = FirstFail(1, IsCompletion, S3ErrorReply(503, "SlowDown"))](
                     const ServiceRequest& request) {
    const std::optional<ServiceReply> loss = loses(request);
    if (loss.has_value()) {
      store_.PutObject("m/a", "another's");
    }
    return loss;
  });
  EXPECT_EQ(ReasonOf(Upload({File("a", Bytes(kLarge, 'a'))})), Reason::kSourceChanged);
}

TEST_P(S3UploadTest, AnUploadThatSomebodyElseEndedIsAnError) {
  store_.SetFault(FirstFail(1, IsCompletion, S3ErrorReply(404, "NoSuchUpload")));
  EXPECT_EQ(ReasonOf(Upload({File("a", Bytes(kLarge, 'a'))})), Reason::kSourceChanged);
  store_.SetFault(FirstFail(1, IsPart, S3ErrorReply(404, "NoSuchUpload")));
  EXPECT_EQ(ReasonOf(Upload({File("a", Bytes(kLarge, 'a'))})), Reason::kSourceChanged);
}

TEST_P(S3UploadTest, AnErrorForGoodLeavesNothing) {
  store_.SetFault(FirstFail(99, IsPart, S3ErrorReply(403, "QuotaExceeded")));
  const absl::Status status = Upload({File("a", Bytes(kLarge, 'a')), File("b", "x")});
  EXPECT_EQ(ReasonOf(status), Reason::kSourceDenied);
  EXPECT_THAT(std::string(status.message()), HasSubstr("QuotaExceeded"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("credentials from a test"));
  EXPECT_THAT(store_.uploads(), IsEmpty());
  EXPECT_THAT(store_.objects(), IsEmpty());
}

TEST_P(S3UploadTest, AStoreThatStaysDownKeepsTheParts) {
  store_.SetFault([](const ServiceRequest& request) {
    return IsPart(request) && absl::StrContains(request.path, "partNumber=3")
               ? std::make_optional(S3ErrorReply(503, "SlowDown"))
               : std::nullopt;
  });
  const std::string large = Bytes(kLarge, 'a');
  const absl::Status status = Upload({File("a", large)});
  EXPECT_EQ(ReasonOf(status), Reason::kSourceUnavailable);
  EXPECT_THAT(HintOf(status), HasSubstr("push again"));
  EXPECT_EQ(store_.uploads().size(), 1u);
  store_.SetFault(nullptr);
  ASSERT_EQ(Upload({File("a", large)}), absl::OkStatus());
  EXPECT_EQ(store_.objects()["m/a"], large);
  EXPECT_EQ(uploaded_[0].bytes_sent, kLarge - 2 * kPart);
}

TEST_P(S3UploadTest, PartsThatCannotBeAbortedAreSaid) {
  store_.SetFault([](const ServiceRequest& request) {
    return IsPart(request) || request.method == "DELETE"
               ? std::make_optional(S3ErrorReply(403, "AccessDenied"))
               : std::nullopt;
  });
  EXPECT_THAT(std::string(Upload({File("a", Bytes(kLarge, 'a'))}).message()),
              HasSubstr("parts stay in the store"));
}

}  // namespace
}  // namespace weightd::source
