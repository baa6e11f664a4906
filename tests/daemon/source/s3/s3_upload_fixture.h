#ifndef WEIGHTD_TESTS_DAEMON_SOURCE_S3_S3_UPLOAD_FIXTURE_H_
#define WEIGHTD_TESTS_DAEMON_SOURCE_S3_S3_UPLOAD_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/cancellation.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/source/s3/s3_upload.h"
#include "tests/fakes/fixed_credentials.h"
#include "tests/servers/memory_s3.h"

namespace weightd::source {

inline constexpr uint64_t kPart = 1000;
// Three parts, the last one short.
inline constexpr uint64_t kLarge = 2500;

inline std::string Bytes(uint64_t size, char seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(seed + i * 7 + i / 256);
  }
  return bytes;
}

inline bool IsPart(const ServiceRequest& request) {
  return request.method == "PUT" && absl::StrContains(request.path, "partNumber=");
}
inline bool IsCompletion(const ServiceRequest& request) {
  return request.method == "POST" && absl::StrContains(request.path, "uploadId=");
}

// Fails the first so many requests of a kind.
inline MemoryS3::Fault FirstFail(int count, bool (*kind)(const ServiceRequest&),
                                 ServiceReply reply) {
  return [left = std::make_shared<std::atomic<int>>(count), kind,
          reply](const ServiceRequest& request) {
    return kind(request) && (*left)-- > 0 ? std::make_optional(reply) : std::nullopt;
  };
}

// Refuses requests that are signed for another region.
inline MemoryS3::Fault OnlyFor(const std::string& region) {
  ServiceReply elsewhere = S3ErrorReply(400, "AuthorizationHeaderMalformed");
  elsewhere.body = absl::StrCat(elsewhere.body.substr(0, elsewhere.body.rfind("</Error>")),
                                "<Region>", region, "</Region></Error>");
  return [elsewhere, region](const ServiceRequest& request) {
    return absl::StrContains(request.Header("authorization"), absl::StrCat("/", region, "/s3/"))
               ? std::nullopt
               : std::make_optional(elsewhere);
  };
}

// Uploads to a store in memory, which keeps checksums or doesn't, and fails as it is told.
class S3UploadTest : public testing::TestWithParam<bool> {
 protected:
  S3UploadTest() : folder_(testing::TempDir() + "/s3_upload") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  // Writes a file that goes to "m/NAME".
  FileToUpload File(const std::string& name, const std::string& bytes,
                    FileToUpload::Role role = FileToUpload::Role::kWeights) {
    const std::string path = absl::StrCat(folder_, "/", name);
    std::ofstream(path, std::ios::binary) << bytes;
    return {path, *Uri::Parse("s3://bucket/m/" + name), role};
  }

  // An index of "m/index" that names these: its text is their names.
  FileToUpload Index(const std::string& names) {
    FileToUpload index = File("index", names, FileToUpload::Role::kIndex);
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
    EXPECT_THAT(uploaded.status().ToString(), testing::Not(testing::HasSubstr("inner words")));
    EXPECT_THAT(uploaded.status().ToString(), testing::Not(testing::HasSubstr("hidden")));
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

}  // namespace weightd::source

#endif  // WEIGHTD_TESTS_DAEMON_SOURCE_S3_S3_UPLOAD_FIXTURE_H_
