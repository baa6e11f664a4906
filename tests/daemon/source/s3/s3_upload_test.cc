// Uploads to a store in memory that fails as it is told.

#include "daemon/source/s3/s3_upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "common/cancellation.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "tests/fakes/fixed_credentials.h"
#include "tests/servers/memory_s3.h"

namespace weightd::source {
namespace {

using Role = FileToUpload::Role;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr uint64_t kPart = 1000;
// Three parts, the last one short.
constexpr uint64_t kLarge = 2500;

std::string Bytes(uint64_t size, char seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(seed + i * 7 + i / 256);
  }
  return bytes;
}

bool IsPart(const ServiceRequest& request) {
  return request.method == "PUT" && absl::StrContains(request.path, "partNumber=");
}
bool IsCompletion(const ServiceRequest& request) {
  return request.method == "POST" && absl::StrContains(request.path, "uploadId=");
}

// Fails the first so many requests of a kind.
MemoryS3::Fault FirstFail(int count, bool (*kind)(const ServiceRequest&), ServiceReply reply) {
  return [left = std::make_shared<std::atomic<int>>(count), kind,
          reply](const ServiceRequest& request) {
    return kind(request) && (*left)-- > 0 ? std::make_optional(reply) : std::nullopt;
  };
}

// Refuses requests that are signed for another region.
MemoryS3::Fault OnlyFor(const std::string& region) {
  ServiceReply elsewhere = S3ErrorReply(400, "AuthorizationHeaderMalformed");
  elsewhere.body = absl::StrCat(elsewhere.body.substr(0, elsewhere.body.rfind("</Error>")),
                                "<Region>", region, "</Region></Error>");
  return [elsewhere, region](const ServiceRequest& request) {
    return absl::StrContains(request.Header("authorization"), absl::StrCat("/", region, "/s3/"))
               ? std::nullopt
               : std::make_optional(elsewhere);
  };
}

class S3UploadTest : public testing::TestWithParam<bool> {
 protected:
  S3UploadTest() : folder_(testing::TempDir() + "/s3_upload") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  // Writes a file that goes to "m/NAME".
  FileToUpload File(const std::string& name, const std::string& bytes, Role role = Role::kWeights) {
    const std::string path = absl::StrCat(folder_, "/", name);
    std::ofstream(path, std::ios::binary) << bytes;
    return {path, *Uri::Parse("s3://bucket/m/" + name), role};
  }

  // An index of "m/index" that names these: its text is their names.
  FileToUpload Index(const std::string& names) {
    FileToUpload index = File("index", names, Role::kIndex);
    index.names = *ParseNames(index.object, names);
    return index;
  }

  static absl::StatusOr<std::vector<Uri>> ParseNames(const Uri&, absl::string_view text) {
    std::vector<Uri> names;
    for (const absl::string_view name : absl::StrSplit(text, ' ')) {
      ASSIGN_OR_RETURN(Uri uri, Uri::Parse(absl::StrCat("s3://bucket/m/", name)));
      names.push_back(std::move(uri));
    }
    return names;
  }

  S3UploadOptions Options() const {
    S3UploadOptions options;
    options.location = {.endpoint = store_.Endpoint(), .region = "us-east-1"};
    options.credentials = std::make_shared<fakes::FixedCredentials>("hidden");
    options.http.connections = 2;
    options.http.attempts = 3;
    options.part_bytes = kPart;
    return options;
  }

  absl::Status Upload(const std::vector<FileToUpload>& files, StoredIndexes stored = {}) {
    stored.parse = ParseNames;
    progress_ = UploadProgress();
    const auto uploaded = UploadFiles(
        files, stored, Options(),
        [this](const UploadProgress& progress) {
          EXPECT_GE(progress.bytes_done, progress_.bytes_done);
          progress_ = progress;
        },
        cancellation_);
    if (uploaded.ok()) {
      uploaded_ = *uploaded;
    }
    EXPECT_THAT(uploaded.status().ToString(), Not(HasSubstr("inner words")));
    EXPECT_THAT(uploaded.status().ToString(), Not(HasSubstr("hidden")));
    EXPECT_EQ(PrintableText(uploaded.status().message()), uploaded.status().message());
    return uploaded.status();
  }

  size_t Count(bool (*kind)(const ServiceRequest&)) const {
    const std::vector<ServiceRequest> requests = store_.requests();
    return static_cast<size_t>(std::count_if(requests.begin(), requests.end(), kind));
  }

  const std::string folder_;
  MemoryS3 store_{/*keeps_checksums=*/GetParam()};
  Cancellation cancellation_;
  std::vector<UploadedFile> uploaded_;
  UploadProgress progress_;
};

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
