// Replays the corpora of all fuzz targets. A crash that fuzzing found becomes a file of its corpus,
// named after the cause.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/fuzz/targets.h"

namespace weightd::fuzz {
namespace {

void Replay(const std::string& corpus, void (*target)(absl::string_view)) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("tests/fuzz/corpus/" + corpus)) {
    SCOPED_TRACE(entry.path().string());
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(in), {}};
    ASSERT_FALSE(in.bad());
    target(input);
    for (size_t cut : {input.size() / 4, input.size() / 2, input.size() - input.size() / 8}) {
      target(absl::string_view(input).substr(0, cut));
    }
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(Replay, Json) { Replay("json", Json); }
TEST(Replay, Safetensors) { Replay("safetensors", Safetensors); }
TEST(Replay, Tensorizer) { Replay("tensorizer", Tensorizer); }
TEST(Replay, ShardIndex) { Replay("shard_index", ShardIndex); }
TEST(Replay, Config) { Replay("config", Config); }
TEST(Replay, UriAndAccess) { Replay("uri_and_access", UriAndAccess); }
TEST(Replay, ModelCard) { Replay("model_card", ModelCard); }
TEST(Replay, Veturboio) { Replay("veturboio", Veturboio); }
TEST(Replay, CredentialText) { Replay("credentials", CredentialText); }
TEST(Replay, S3Answers) { Replay("s3_answers", S3Answers); }
TEST(Replay, S3UploadAnswers) { Replay("s3_upload_answers", S3UploadAnswers); }
TEST(Replay, HubAnswers) { Replay("hub_answers", HubAnswers); }
TEST(Replay, HandleFrames) { Replay("handle_frames", HandleFrames); }
TEST(Replay, KeeperRequests) { Replay("keeper_requests", KeeperRequests); }

}  // namespace
}  // namespace weightd::fuzz
