#include "daemon/pipeline/read_headers.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/pipeline/model.h"
#include "gtest/gtest.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::pipeline {
namespace {

class ReadHeadersTest : public testing::Test {
 protected:
  // Shards of one small tensor whose headers have `metadata_bytes` and a little more.
  void PutShards(int count, uint64_t metadata_bytes) {
    fakes::SafetensorsOptions options;
    options.metadata["note"] = std::string(metadata_bytes, 'n');
    for (int i = 0; i < count; ++i) {
      const std::string name = absl::StrCat("shard-", files_.size(), ".safetensors");
      const std::string uri = absl::StrCat("http://h/m/", name);
      source_.Put(uri,
                  fakes::SafetensorsFile({fakes::F32Tensor(absl::StrCat("t", i), 4, 1)}, options));
      ModelFile file;
      file.name = name;
      file.version = source_.Stat(Uri::Parse(uri).value(), policy_, cancellation_).value();
      files_.push_back(file);
    }
  }

  fakes::MemorySource source_;
  source::ReadPolicy policy_;
  Cancellation cancellation_;
  std::vector<ModelFile> files_;
};

constexpr uint64_t kMiB = 1 << 20;

TEST_F(ReadHeadersTest, ShortAndLongOnesAreReadInOrder) {
  PutShards(70, 1000);
  PutShards(2, kMiB);
  const auto headers = ReadHeaders(source_, files_, policy_, cancellation_);
  ASSERT_TRUE(headers.ok()) << headers.status();
  ASSERT_EQ(headers->size(), 72u);
  EXPECT_EQ((*headers)[69].tensors[0].name, "t69");
  EXPECT_EQ((*headers)[71].tensors[0].name, "t1");
  EXPECT_EQ((*headers)[71].metadata.at("note").size(), kMiB);
}

// Counts the reads that say that nobody waits for them.
class Patient : public fakes::MemorySource {
 public:
  absl::Status Read(absl::Span<const source::ReadRequest> requests,
                    const source::ReadPolicy& policy, const source::ReadObserver& observer,
                    Cancellation& cancellation) override {
    unawaited += observer.awaited() ? 0 : 1;
    return MemorySource::Read(requests, policy, observer, cancellation);
  }
  int unawaited = 0;
};

TEST_F(ReadHeadersTest, ReadsSayWhetherSomebodyWaits) {
  PutShards(1, kMiB);
  Patient source;
  fakes::SafetensorsOptions options;
  options.metadata["note"] = std::string(kMiB, 'n');
  source.Put(files_[0].version.uri.ToString(),
             fakes::SafetensorsFile({fakes::F32Tensor("t0", 4, 1)}, options));
  HeaderOptions headers;
  headers.awaited = [] { return false; };
  ASSERT_TRUE(ReadHeaders(source, files_, policy_, cancellation_, headers).ok());
  EXPECT_EQ(source.unawaited, 2);  // its first part, and the rest
}

TEST_F(ReadHeadersTest, AllOfAModelTogetherAreBounded) {
  PutShards(4, kMiB);
  EXPECT_TRUE(ReadHeaders(source_, files_, policy_, cancellation_, {.max_bytes = 5 * kMiB}).ok());
  const uint64_t before = source_.bytes_read();
  const absl::Status refused =
      ReadHeaders(source_, files_, policy_, cancellation_, {.max_bytes = 3 * kMiB}).status();
  EXPECT_EQ(ReasonOf(refused), Reason::kMalformedModel);
  EXPECT_TRUE(absl::StrContains(refused.message(), "shard-2.safetensors")) << refused;
  // Two headers, and the first parts of all files: the third header was never asked for.
  EXPECT_LT(source_.bytes_read() - before, 3 * kMiB + kMiB / 4);
}

}  // namespace
}  // namespace weightd::pipeline
