// Uploads that go as they should, are given up, or can't be.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "tests/daemon/source/s3/s3_upload_fixture.h"

namespace weightd::source {
namespace {

using Role = FileToUpload::Role;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

INSTANTIATE_TEST_SUITE_P(Stores, S3UploadTest, testing::Bool(), [](const auto& info) {
  return info.param ? "WithChecksums" : "WithoutChecksums";
});

TEST_P(S3UploadTest, FilesBecomeObjects) {
  const std::string large = Bytes(kLarge, 'a');
  ASSERT_EQ(Upload({File("large", large), File("small", "bytes"), File("empty", "", Role::kOther)}),
            absl::OkStatus());
  EXPECT_THAT(store_.objects(), ElementsAre(std::pair("m/empty", ""), std::pair("m/large", large),
                                            std::pair("m/small", "bytes")));
  EXPECT_EQ(Count(IsPart), 3u);
  EXPECT_THAT(store_.uploads(), IsEmpty());
  EXPECT_EQ(uploaded_[0].bytes_sent, kLarge);
  EXPECT_EQ(progress_.bytes_done, kLarge + 5);
}

TEST_P(S3UploadTest, WhatIsThereIsNotSentAgain) {
  const std::vector<FileToUpload> files = {File("large", Bytes(kLarge, 'a')), File("small", "x")};
  ASSERT_EQ(Upload(files), absl::OkStatus());
  const size_t before = store_.requests().size();
  ASSERT_EQ(Upload(files), absl::OkStatus());
  EXPECT_EQ(store_.requests().size(), before + 2);
  EXPECT_TRUE(uploaded_[0].was_there && uploaded_[1].was_there);
  EXPECT_EQ(uploaded_[0].bytes_sent, 0u);
}

TEST_P(S3UploadTest, OtherBytesOfTheSameSizeAreSent) {
  store_.PutObject("m/small", "bytes");
  // Stored in one piece, so that nothing of it can be compared with parts.
  store_.PutObject("m/large", Bytes(kLarge, 'a'));
  ASSERT_EQ(Upload({File("small", "other"), File("large", Bytes(kLarge, 'b'))}), absl::OkStatus());
  EXPECT_EQ(store_.objects()["m/small"], "other");
  EXPECT_EQ(store_.objects()["m/large"], Bytes(kLarge, 'b'));
  EXPECT_FALSE(uploaded_[0].was_there);
}

TEST_P(S3UploadTest, AnUnfinishedUploadGoesOn) {
  const std::string large = Bytes(kLarge, 'a');
  const std::string id = store_.BeginUpload("m/large", GetParam() ? "SHA256" : "");
  store_.PutPart(id, 1, large.substr(0, kPart));
  store_.PutPart(id, 2, Bytes(kPart, 'z'));
  store_.BeginUpload("m/large", "SHA256");
  store_.BeginUpload("m/larger", "SHA256");
  ASSERT_EQ(Upload({File("large", large)}), absl::OkStatus());
  EXPECT_EQ(store_.objects()["m/large"], large);
  // The second part was another one's.
  EXPECT_EQ(Count(IsPart), 2u);
  EXPECT_EQ(uploaded_[0].bytes_sent, kLarge - kPart);
  EXPECT_EQ(store_.uploads().size(), 1u);
}

TEST_P(S3UploadTest, AnUploadThatDoesNotFitIsAborted) {
  const std::string large = Bytes(kLarge, 'a');
  store_.PutPart(store_.BeginUpload("m/large", "SHA256"), 1, large.substr(0, kPart - 1));
  store_.PutPart(store_.BeginUpload("m/large", "SHA256"), 4, large.substr(0, kPart));
  store_.PutPart(store_.BeginUpload("m/large", GetParam() ? "CRC32" : ""), 9, "x");
  ASSERT_EQ(Upload({File("large", large)}), absl::OkStatus());
  EXPECT_EQ(store_.objects()["m/large"], large);
  EXPECT_EQ(Count(IsPart), 3u);
  EXPECT_THAT(store_.uploads(), IsEmpty());
}

TEST_P(S3UploadTest, AnUploadThatWasBegunWithoutChecksumsEndsWithout) {
  const std::string large = Bytes(kLarge, 'a');
  store_.PutPart(store_.BeginUpload("m/large", ""), 1, large.substr(0, kPart));
  ASSERT_EQ(Upload({File("large", large)}), absl::OkStatus());
  EXPECT_EQ(store_.objects()["m/large"], large);
  EXPECT_EQ(Count(IsPart), 2u);
}

TEST_P(S3UploadTest, WhoMayNotListStartsAnew) {
  store_.BeginUpload("m/large", "SHA256");
  store_.SetFault([](const ServiceRequest& request) {
    return request.method == "GET" || request.method == "HEAD"
               ? std::make_optional(S3ErrorReply(403, "AccessDenied"))
               : std::nullopt;
  });
  ASSERT_EQ(Upload({File("large", Bytes(kLarge, 'a'))}), absl::OkStatus());
  EXPECT_EQ(store_.objects().size(), 1u);
  EXPECT_EQ(store_.uploads().size(), 1u);
}

TEST_P(S3UploadTest, CancellationLeavesNothing) {
  store_.SetFault([this](const ServiceRequest& request) {
    if (IsPart(request)) {
      cancellation_.Cancel(absl::CancelledError("by the test"));
    }
    return std::nullopt;
  });
  EXPECT_EQ(ReasonOf(Upload({File("a", Bytes(kLarge, 'a'))})), Reason::kCancelled);
  EXPECT_THAT(store_.uploads(), IsEmpty());
  EXPECT_THAT(store_.objects(), IsEmpty());
}

TEST_P(S3UploadTest, AFileThatChangesIsAnError) {
  const FileToUpload file = File("a", Bytes(kLarge, 'a'));
  // By value: a part may still be served when the test ends.
  store_.SetFault([path = file.path](const ServiceRequest& request) {
    if (IsPart(request)) {
      std::ofstream(path, std::ios::app) << "more";
    }
    return std::nullopt;
  });
  const absl::Status status = Upload({file});
  EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged);
  EXPECT_THAT(std::string(status.message()), HasSubstr(file.path));
  EXPECT_THAT(store_.uploads(), IsEmpty());
  EXPECT_THAT(store_.objects(), IsEmpty());
}

timespec ChangeTimeOf(const std::string& path) {
  struct stat about{};
  EXPECT_EQ(stat(path.c_str(), &about), 0);
  return about.st_ctim;
}

// The bytes are others, size and time of writing are not. More than once where the kernel's clock
// for files ticks slowly.
void Rewrite(const std::string& path) {
  const auto written = std::filesystem::last_write_time(path);
  const timespec before = ChangeTimeOf(path);
  timespec now = before;
  while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec) {
    std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << "other";
    std::filesystem::last_write_time(path, written);
    now = ChangeTimeOf(path);
  }
}

TEST_P(S3UploadTest, AFileWhoseTimeIsSetBackHasChanged) {
  const FileToUpload large = File("large", Bytes(kLarge, 'a'));
  const FileToUpload small = File("small", "bytes");
  for (const auto& [file, at] :
       {std::pair<FileToUpload, bool (*)(const ServiceRequest&)>(large, IsPart),
        {large, [](const ServiceRequest& request) { return request.method == "POST"; }},
        {small, [](const ServiceRequest& request) { return request.method == "HEAD"; }}}) {
    store_.SetFault([path = file.path, at, done = std::make_shared<std::once_flag>()](
                        const ServiceRequest& request) -> std::optional<ServiceReply> {
      if (at(request)) {
        std::call_once(*done, [&path] { Rewrite(path); });
      }
      return std::nullopt;
    });
    EXPECT_EQ(ReasonOf(Upload({file})), Reason::kSourceChanged);
    EXPECT_THAT(store_.objects(), IsEmpty());
  }
}

TEST_P(S3UploadTest, NothingIsVisibleBeforeAllPartsAreThere) {
  store_.SetFault([this](const ServiceRequest& request) {
    if (IsPart(request)) {
      EXPECT_THAT(store_.objects(), IsEmpty());
    }
    return std::nullopt;
  });
  EXPECT_EQ(Upload({File("small", "x"), File("a", Bytes(kLarge, 'a')),
                    File("b", Bytes(kLarge, 'b')), File("index", "i", Role::kIndex)}),
            absl::OkStatus());
  EXPECT_EQ(store_.objects().size(), 4u);
}

TEST_P(S3UploadTest, AnotherRegionIsSignedFor) {
  store_.SetFault(OnlyFor("eu-west-3"));
  EXPECT_EQ(Upload({File("a", Bytes(kLarge, 'a'))}), absl::OkStatus());
  EXPECT_EQ(store_.objects()["m/a"], Bytes(kLarge, 'a'));
}

TEST_P(S3UploadTest, HeadersWithoutEndEndARequest) {
  ServiceReply reply;
  for (int i = 0; i < 300; ++i) {
    reply.headers.push_back(absl::StrCat("x-more-", i, ": ", std::string(1000, 'h')));
  }
  store_.SetFault([reply](const ServiceRequest&) { return std::make_optional(reply); });
  const absl::Status status = Upload({File("a", "x")});
  EXPECT_EQ(ReasonOf(status), Reason::kSourceProtocol);
  EXPECT_THAT(status.ToString(), HasSubstr("headers are too long"));
}

TEST_P(S3UploadTest, ATrialLeavesNothing) {
  const Uri object = *Uri::Parse("s3://bucket/m/large");
  EXPECT_EQ(TryUpload(object, Options(), cancellation_), absl::OkStatus());
  EXPECT_THAT(store_.uploads(), IsEmpty());
  EXPECT_THAT(store_.objects(), IsEmpty());
  store_.SetFault([](const ServiceRequest& request) {
    return request.method == "DELETE" ? std::make_optional(S3ErrorReply(403, "AccessDenied"))
                                      : std::nullopt;
  });
  EXPECT_EQ(TryUpload(object, Options(), cancellation_), absl::OkStatus());
}

TEST_P(S3UploadTest, ATrialTellsWhatAnUploadWould) {
  for (const auto& [reply, reason] :
       {std::pair(S3ErrorReply(404, "NoSuchBucket"), Reason::kModelNotFound),
        std::pair(S3ErrorReply(403, "InvalidAccessKeyId"), Reason::kSourceDenied)}) {
    store_.SetFault([reply = reply](const ServiceRequest&) { return std::make_optional(reply); });
    const absl::Status told =
        TryUpload(*Uri::Parse("s3://bucket/m/large"), Options(), cancellation_);
    EXPECT_EQ(ReasonOf(told), reason);
    EXPECT_THAT(told.ToString(), Not(HasSubstr("hidden")));
  }
}

TEST_P(S3UploadTest, RequestsSayWhatTheySend) {
  ASSERT_EQ(Upload({File("a", Bytes(kLarge, 'a')), File("b", "x")}), absl::OkStatus());
  for (const ServiceRequest& request : store_.requests()) {
    EXPECT_EQ(request.Header("x-amz-content-sha256").size(), 64u);
    EXPECT_THAT(request.Header("authorization"), HasSubstr("x-amz-content-sha256"));
    if (request.method == "PUT") {
      EXPECT_EQ(request.Header("x-amz-checksum-sha256").size(), 44u);
      EXPECT_THAT(request.Header("authorization"), HasSubstr("x-amz-checksum-sha256"));
    }
  }
}

}  // namespace
}  // namespace weightd::source
