// What readers find while models are replaced: an index, a notice, never other weights.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "tests/daemon/source/s3/s3_upload_fixture.h"

namespace weightd::source {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

INSTANTIATE_TEST_SUITE_P(Stores, S3UploadTest, testing::Bool(), [](const auto& info) {
  return info.param ? "WithChecksums" : "WithoutChecksums";
});

// What readers find where the index will be, while objects are made.
std::vector<std::string> IndexesSeen(MemoryS3& store, const std::function<absl::Status()>& upload) {
  absl::Mutex mutex;
  std::vector<std::string> seen;
  store.SetFault([&](const ServiceRequest& request) {
    if (request.method == "PUT" && !absl::StrContains(request.path, "/m/index")) {
      const auto objects = store.objects();
      const auto index = objects.find("m/index");
      absl::MutexLock lock(&mutex);
      seen.push_back(index == objects.end() ? "" : index->second);
    }
    return std::nullopt;
  });
  EXPECT_EQ(upload(), absl::OkStatus());
  store.SetFault(nullptr);
  return seen;
}

TEST_P(S3UploadTest, ReadersAreToldThatWeightsAreBeingReplaced) {
  const FileToUpload index = Index("a");
  ASSERT_EQ(Upload({File("a", "old"), index}), absl::OkStatus());
  EXPECT_THAT(IndexesSeen(store_, [&] { return Upload({File("a", "new"), index}); }),
              ElementsAre(HasSubstr("being-pushed")));
  EXPECT_THAT(store_.objects(), ElementsAre(std::pair("m/a", "new"), std::pair("m/index", "a")));
}

TEST_P(S3UploadTest, ReadersOfTheOldIndexAreToldThatItsWeightsAreBeingReplaced) {
  ASSERT_EQ(Upload({File("a", "old"), Index("a")}), absl::OkStatus());
  const FileToUpload index = Index("b");
  EXPECT_THAT(
      IndexesSeen(store_, [&] { return Upload({File("a", "new"), File("b", "b"), index}); }),
      testing::Each(HasSubstr("being-pushed")));
  EXPECT_EQ(store_.objects()["m/index"], "b");
}

TEST_P(S3UploadTest, ReadersOfWeightsThatStayGoOn) {
  const FileToUpload index = Index("a");
  ASSERT_EQ(Upload({File("a", "a"), File("other", "old"), index}), absl::OkStatus());
  EXPECT_THAT(
      IndexesSeen(store_, [&] { return Upload({File("a", "a"), File("other", "new"), index}); }),
      ElementsAre("a"));
  EXPECT_EQ(store_.objects()["m/other"], "new");
}

TEST_P(S3UploadTest, ReadersOfAnIndexThatNobodyCanReadAreToldToo) {
  ASSERT_EQ(Upload({File("a", "a"), File("other", "old"), Index("a")}), absl::OkStatus());
  store_.PutObject("m/index", "..");
  const FileToUpload index = Index("a");
  EXPECT_THAT(
      IndexesSeen(store_, [&] { return Upload({File("a", "a"), File("other", "new"), index}); }),
      ElementsAre(HasSubstr("being-pushed")));
}

TEST_P(S3UploadTest, WeightsThatAnotherIndexNamesAreNotReplaced) {
  StoredIndexes stored;
  stored.others = {*Uri::Parse("s3://bucket/m/index")};
  ASSERT_EQ(Upload({File("a", "old"), File("b", "b"), Index("a b")}), absl::OkStatus());
  const FileToUpload file = File("a", "new");
  const absl::Status status = Upload({file}, stored);
  EXPECT_EQ(ReasonOf(status), Reason::kNotAllowed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("s3://bucket/m/index"));
  EXPECT_THAT(HintOf(status), HasSubstr("push the whole folder"));
  EXPECT_EQ(store_.objects()["m/a"], "old");
  // Neither the same nor what it doesn't name.
  EXPECT_EQ(Upload({File("a", "old")}, stored), absl::OkStatus());
  EXPECT_EQ(Upload({File("other", "new")}, stored), absl::OkStatus());
}

TEST_P(S3UploadTest, AnIndexThatMayNotBeReadForNowIsNotOverlooked) {
  StoredIndexes stored;
  stored.others = {*Uri::Parse("s3://bucket/m/index")};
  ASSERT_EQ(Upload({File("a", "old"), Index("a")}), absl::OkStatus());
  const auto reads_index = [](const ServiceRequest& request) {
    return request.method == "GET" && absl::EndsWith(request.path, "/m/index");
  };
  store_.SetFault(FirstFail(99, reads_index, S3ErrorReply(503, "SlowDown")));
  EXPECT_EQ(ReasonOf(Upload({File("a", "new")}, stored)), Reason::kSourceUnavailable);
  EXPECT_EQ(store_.objects()["m/a"], "old");
  // Who may only write can't know.
  store_.SetFault(FirstFail(99, reads_index, S3ErrorReply(403, "AccessDenied")));
  EXPECT_EQ(Upload({File("a", "new")}, stored), absl::OkStatus());
}

TEST_P(S3UploadTest, ReadersAreToldThatShardsAreStillComing) {
  EXPECT_THAT(
      IndexesSeen(store_, [&] { return Upload({File("a", "x"), File("b", "y"), Index("a b")}); }),
      ElementsAre(HasSubstr("being-pushed"), HasSubstr("being-pushed")));
  EXPECT_EQ(store_.objects()["m/index"], "a b");
}

TEST_P(S3UploadTest, AnIndexStaysWhileWeightsAreAdded) {
  ASSERT_EQ(Upload({File("a", "old"), Index("a")}), absl::OkStatus());
  EXPECT_THAT(
      IndexesSeen(store_,
                  [&] { return Upload({File("a", "old"), File("b", "new"), Index("a b")}); }),
      ElementsAre("a"));
  EXPECT_EQ(store_.objects()["m/index"], "a b");
}

TEST_P(S3UploadTest, OneShardNeedsNoNotice) {
  EXPECT_THAT(IndexesSeen(store_, [&] { return Upload({File("a", "x"), Index("a")}); }),
              ElementsAre(""));
}

TEST_P(S3UploadTest, WhatHidesTheFilesMustNotBeThere) {
  StoredIndexes stored;
  stored.must_be_absent = {*Uri::Parse("s3://bucket/m/index")};
  EXPECT_EQ(Upload({File("a", "x")}, stored), absl::OkStatus());
  store_.PutObject("m/index", "of another model");
  EXPECT_EQ(ReasonOf(Upload({File("b", "x")}, stored)), Reason::kNotAllowed);
  EXPECT_FALSE(store_.objects().contains("m/b"));
}

TEST_P(S3UploadTest, WhatHidesTheFilesMustNotBeOverlooked) {
  StoredIndexes stored;
  stored.must_be_absent = {*Uri::Parse("s3://bucket/m/index")};
  store_.PutObject("m/index", "of another model");
  const auto is_asked_for = [](const ServiceRequest& request) {
    return absl::StrContains(request.path, "/m/index");
  };
  store_.SetFault(FirstFail(99, is_asked_for, S3ErrorReply(503, "SlowDown")));
  EXPECT_EQ(ReasonOf(Upload({File("a", "x")}, stored)), Reason::kSourceUnavailable);
  EXPECT_FALSE(store_.objects().contains("m/a"));
  // Who may only write can't know.
  store_.SetFault(FirstFail(99, is_asked_for, S3ErrorReply(403, "AccessDenied")));
  EXPECT_EQ(Upload({File("a", "x")}, stored), absl::OkStatus());
  store_.SetFault(nullptr);
  // Nor is it for a reason that only the body of an answer tells.
  store_.SetFault(OnlyFor("eu"));
  EXPECT_EQ(ReasonOf(Upload({File("b", "x")}, stored)), Reason::kNotAllowed);
}

TEST_P(S3UploadTest, NoIndexNamesWeightsOfAnotherPush) {
  const std::string large = Bytes(kLarge, 'a');
  const std::vector<FileToUpload> files = {File("large", large), File("small", "x"),
                                           Index("large small")};
  for (const bool was_there : {false, true}) {
    for (const std::string key : {"m/large", "m/small"}) {
      ASSERT_EQ(Upload(files), absl::OkStatus());
      const std::string bytes = store_.objects()[key];
      // The index and, for the first round, the file are sent anew.
      store_.PutObject("m/index", "old");
      if (!was_there) {
        store_.PutObject(key, "old");
      }
      // Another push puts its own there before we look for the last time.
      store_.SetFault([&, heads = std::make_shared<std::atomic<int>>(0)](
                          const ServiceRequest& request) -> std::optional<ServiceReply> {
        if (request.method == "HEAD" && absl::EndsWith(request.path, key) && (*heads)++ == 1) {
          EXPECT_EQ(store_.objects()[key], bytes);
          store_.PutObject(key, "another's");
        }
        return std::nullopt;
      });
      EXPECT_EQ(ReasonOf(Upload(files)), Reason::kSourceChanged);
      EXPECT_NE(store_.objects()["m/index"], "large small");
      store_.SetFault(nullptr);
    }
  }
}

TEST_P(S3UploadTest, AnErrorSaysThatReadersFail) {
  const FileToUpload index = Index("a");
  ASSERT_EQ(Upload({File("a", "old"), index}), absl::OkStatus());
  const auto is_weight = [](const ServiceRequest& request) {
    return request.method == "PUT" && absl::StrContains(request.path, "/m/a");
  };
  for (const int code : {403, 503}) {
    store_.SetFault(FirstFail(99, is_weight, S3ErrorReply(code, "Trouble")));
    EXPECT_THAT(std::string(Upload({File("a", "new"), index}).message()),
                HasSubstr("readers fail until it is pushed again"));
    EXPECT_THAT(store_.objects()["m/index"], HasSubstr("being-pushed"));
  }
  // Nothing was in the way of readers when this one failed.
  store_.SetFault(FirstFail(99, IsPart, S3ErrorReply(403, "Trouble")));
  EXPECT_THAT(std::string(Upload({File("b", Bytes(kLarge, 'b'))}).message()),
              Not(HasSubstr("readers fail")));
}

}  // namespace
}  // namespace weightd::source
