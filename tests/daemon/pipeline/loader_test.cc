#include "daemon/pipeline/loader.h"

#include <fcntl.h>

#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/checksum.h"
#include "gtest/gtest.h"
#include "tests/daemon/pipeline/load_from_memory.h"
#include "tests/fakes/checksums.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::pipeline {
namespace {

using fakes::F32Tensor;
using fakes::SafetensorsFile;
using fakes::TensorToWrite;

constexpr uint64_t kMiB = 1 << 20;

std::string BytesOf(const ResidentModel& model, const Piece& piece) {
  return {reinterpret_cast<const char*>(model.weights->bytes().data()) + piece.offset,
          piece.nbytes};
}

std::string EncodeIndexOf(const ModelIndex& index) {
  return absl::StrCat("index of ", index.pieces.size());
}

class LoaderTest : public LoadFromMemory {
 protected:
  LoaderTest() : LoadFromMemory(EncodeIndexOf) {}

  void ExpectTensors(const ResidentModel& model, const std::vector<TensorToWrite>& tensors) {
    ASSERT_EQ(model.index.pieces.size(), tensors.size());
    std::map<std::string, const Piece*> pieces;
    for (const Piece& piece : model.index.pieces) pieces[piece.name] = &piece;
    for (const TensorToWrite& tensor : tensors) {
      ASSERT_EQ(pieces.count(tensor.name), 1u) << tensor.name;
      const Piece& piece = *pieces[tensor.name];
      EXPECT_EQ(DTypeName(piece.dtype), tensor.dtype) << tensor.name;
      EXPECT_EQ(piece.shape, tensor.shape) << tensor.name;
      EXPECT_EQ(piece.offset % DTypeAlignment(piece.dtype), 0u) << tensor.name;
      EXPECT_TRUE(BytesOf(model, piece) == tensor.bytes) << tensor.name;
    }
  }
};

TEST_F(LoaderTest, ASingleFileBecomesASealedSegmentAndItsIndex) {
  const std::vector<TensorToWrite> tensors = {F32Tensor("weight", 1'500'000, 1),
                                              F32Tensor("bias", 300, 2),
                                              {"scalar", "I64", {}, "8 bytes!"}};
  source_->Put(kModel, SafetensorsFile(tensors, {.metadata = {{"format", "pt"}}}));
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, tensors);
  EXPECT_EQ(model->index.metadata.at("format"), "pt");
  EXPECT_EQ(model->index.segment_bytes, model->weights->size());
  EXPECT_EQ(model->index.revision, Resolve()->revision);
  EXPECT_TRUE(model->index.pinned_to_version);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(model->encoded_index->bytes().data()),
                        model->encoded_index_bytes),
            "index of 3");
  const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  EXPECT_EQ(fcntl(model->weights->OpenForClient("l")->get(), F_GET_SEALS) & seals, seals);
  EXPECT_EQ(fcntl(model->encoded_index->OpenForClient("l")->get(), F_GET_SEALS) & seals, seals);
  EXPECT_EQ(tier_->usage().resident, model->charged_bytes());
  EXPECT_EQ(tier_->usage().loading, 0u);
}

TEST_F(LoaderTest, StoredBytesKeepTheirPlaceModuloAPage) {
  const std::vector<TensorToWrite> tensors = {F32Tensor("t", 100'000, 1)};
  const std::string file = SafetensorsFile(tensors);
  source_->Put(kModel, file);
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->index.pieces[0].offset % kPageBytes, (file.size() - 400'000) % kPageBytes);
}

TEST_F(LoaderTest, AFileWithAnUnpaddedHeaderIsAligned) {
  const std::vector<TensorToWrite> tensors = {F32Tensor("a", 5000, 1), F32Tensor("b", 70'001, 2)};
  for (uint64_t misalignment = 1; misalignment < 8; ++misalignment) {
    source_->Put(kModel, SafetensorsFile(tensors, {.misalignment = misalignment, .metadata = {}}));
    const auto model = ResolveAndLoad();
    ASSERT_TRUE(model.ok()) << model.status();
    ExpectTensors(*model, tensors);
  }
}

TEST_F(LoaderTest, AFileWhoseTensorsLieOddlyIsRealigned) {
  const std::vector<TensorToWrite> tensors = {{"flags", "BOOL", {3}, "abc"},
                                              F32Tensor("a", 500'000, 1),
                                              {"byte", "U8", {1}, "z"},
                                              {"none", "F64", {0, 7}, ""},
                                              F32Tensor("b", 12'345, 2)};
  source_->Put(kModel, SafetensorsFile(tensors));
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, tensors);
}

TEST_F(LoaderTest, EmptyModelsAndEmptyTensorsWork) {
  source_->Put(kModel, SafetensorsFile({}));
  auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->index.pieces.empty());
  EXPECT_EQ(model->weights->size(), kPageBytes);
  const std::vector<TensorToWrite> tensors = {{"none", "F32", {0}, ""}};
  source_->Put(kModel, SafetensorsFile(tensors));
  model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, tensors);
}

TEST_F(LoaderTest, AFoldersSmallFilesComeWithItAndAreChargedWithIt) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("weight", 1000, 1)}));
  const auto alone = ResolveAndLoad("http://host/m/");
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_EQ(alone->small_files, nullptr);
  EXPECT_EQ(alone->small_file_bytes, 0u);
  source_->Put("http://host/m/config.json", "{}");
  source_->Put("http://host/m/tokenizer.json", std::string(5000, 'x'));
  const auto model = ResolveAndLoad("http://host/m/");
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ(model->index.small_files.size(), 2u);
  ASSERT_NE(model->small_files, nullptr);
  EXPECT_EQ(model->small_file_bytes, 5002u);
  EXPECT_EQ(model->charged_bytes(), alone->charged_bytes() + 2 * kPageBytes);
  EXPECT_EQ(tier_->usage().resident, alone->charged_bytes() + model->charged_bytes());
  EXPECT_EQ(model->index.files.size(), 1u) << "they are no weights";
  const auto file = ResolveAndLoad();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->index.small_files.empty()) << "a weight file has none";
}

TEST_F(LoaderTest, ASmallFileThatIsDamagedFailsTheLoadAndLeavesNothing) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("weight", 1000, 1)}));
  source_->Put("http://host/m/config.json", "{}");
  source_->SetChecksums("http://host/m/config.json",
                        {fakes::Whole(source::ChecksumKind::kSha256, "[]")});
  const absl::Status status = ResolveAndLoad("http://host/m/").status();
  EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "config.json")) << status;
  ExpectNothingHeld();
}

TEST_F(LoaderTest, SmallFilesThatDoNotFitTheBudgetFailTheLoad) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("weight", 1000, 1)}));
  source_->Put("http://host/m/tokenizer.json", std::string(2 * kMiB, 'x'));
  SetBudget(kMiB);
  EXPECT_TRUE(ResolveAndLoad().ok());
  EXPECT_EQ(ReasonOf(ResolveAndLoad("http://host/m/").status()), Reason::kBudgetExceeded);
  ExpectNothingHeld();
}

TEST_F(LoaderTest, ShardsLieInOneSegment) {
  std::vector<TensorToWrite> all;
  std::map<std::string, std::string> weight_map;
  for (int shard = 0; shard < 100; ++shard) {
    const std::string name = absl::StrCat("s", shard, ".safetensors");
    std::vector<TensorToWrite> tensors = {F32Tensor(absl::StrCat("t", shard), 1000 + shard, shard)};
    weight_map[tensors[0].name] = name;
    source_->Put(
        absl::StrCat("http://host/m/", name),
        SafetensorsFile(tensors, {.misalignment = shard % 8u, .metadata = {{"from", name}}}));
    all.push_back(tensors[0]);
  }
  source_->Put("http://host/m/model.safetensors.index.json", fakes::ShardIndexFile(weight_map));
  const auto model = ResolveAndLoad("http://host/m/");
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, all);
  EXPECT_EQ(model->index.files.size(), 100u);
  EXPECT_EQ(model->index.metadata.at("from"), "s0.safetensors") << "the first file's wins";
  for (const Piece& piece : model->index.pieces) {
    EXPECT_EQ(model->index.files[piece.file].name, weight_map[piece.name]);
  }
}

TEST_F(LoaderTest, AnIndexThatItsFilesContradictIsRefusedBeforeAnyWeightMoves) {
  source_->Put("http://host/m/model.safetensors.index.json",
               fakes::ShardIndexFile({{"a", "1.safetensors"}, {"b", "1.safetensors"}}));
  source_->Put("http://host/m/1.safetensors", SafetensorsFile({F32Tensor("a", 1'000'000, 1)}));
  const auto model = ResolveAndLoad("http://host/m/");
  EXPECT_EQ(ReasonOf(model.status()), Reason::kMalformedModel);
  EXPECT_LT(source_->bytes_read(), kMiB);
  ExpectNothingHeld();
}

TEST_F(LoaderTest, FilesWithoutIndexLieInOneSegment) {
  const std::vector<TensorToWrite> tensors = {F32Tensor("a", 1000, 1), F32Tensor("b", 2000, 2)};
  source_->Put("http://host/m/1.safetensors", SafetensorsFile({tensors[0]}));
  source_->Put("http://host/m/2.safetensors", SafetensorsFile({tensors[1]}));
  const auto model = ResolveAndLoad("http://host/m/");
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, tensors);
}

TEST_F(LoaderTest, ATensorInTwoFilesIsRefusedWithBothNames) {
  source_->Put("http://host/m/1.safetensors", SafetensorsFile({F32Tensor("a", 1000, 1)}));
  source_->Put("http://host/m/2.safetensors",
               SafetensorsFile({F32Tensor("b", 1000, 1), F32Tensor("a", 1000, 2)}));
  const auto model = ResolveAndLoad("http://host/m/");
  EXPECT_EQ(ReasonOf(model.status()), Reason::kMalformedModel);
  EXPECT_TRUE(absl::StrContains(model.status().message(),
                                "tensor a is in two files, 1.safetensors and 2.safetensors"))
      << model.status();
  EXPECT_FALSE(HintOf(model.status()).empty());
  ExpectNothingHeld();
}

TEST_F(LoaderTest, NamesOfForeignTensorsAreEscapedInErrors) {
  const std::string file = SafetensorsFile({F32Tensor("a\\u001b[2J\\n", 1000, 1)});
  source_->Put("http://host/m/1.safetensors", file);
  source_->Put("http://host/m/2.safetensors", file);
  const auto model = ResolveAndLoad("http://host/m/");
  EXPECT_EQ(ReasonOf(model.status()), Reason::kMalformedModel);
  EXPECT_TRUE(absl::StrContains(model.status().message(), "tensor a\\x1b[2J\\x0a is in two files"))
      << model.status();
}

TEST_F(LoaderTest, AHundredThousandTensorsWork) {
  std::vector<TensorToWrite> tensors;
  tensors.reserve(100'000);
  for (int i = 0; i < 100'000; ++i) {
    tensors.push_back({absl::StrCat("model.layers.", i, ".weight"), "U8", {4}, "abcd"});
    tensors.back().bytes[i % 4] = static_cast<char>(i);
  }
  source_->Put(kModel, SafetensorsFile(tensors));
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, tensors);
  EXPECT_LT(source_->reads().size(), 50u) << "small tensors are read together";
}

TEST_F(LoaderTest, AHeaderIsReadOnceAndTheBytesOnce) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 2'000'000, 1)}));
  ASSERT_TRUE(ResolveAndLoad().ok());
  EXPECT_LE(source_->bytes_read(), 8'000'000u + 300'000);
}

TEST_F(LoaderTest, ProgressTellsPhasesAndBytes) {
  const std::string file = SafetensorsFile({F32Tensor("t", 1'000'000, 1)});
  source_->Put(kModel, file);
  const auto resolved = Resolve();
  ASSERT_TRUE(resolved.ok());
  source_->HoldReadsAfter(2 * kMiB);
  std::thread loading([&] { EXPECT_TRUE(Load(*resolved).ok()); });
  ASSERT_TRUE(source_->AwaitHeldRead());
  EXPECT_EQ(progress_.phase, Phase::kTransferring);
  EXPECT_EQ(progress_.bytes_total, file.size());
  EXPECT_GT(progress_.bytes_done, kMiB);
  EXPECT_LT(progress_.bytes_done, file.size());
  source_->ReleaseReads();
  loading.join();
  EXPECT_EQ(progress_.phase, Phase::kDone);
  EXPECT_EQ(progress_.bytes_done, file.size());
}

TEST_F(LoaderTest, NothingIsPublishedBeforeTheLastByte) {
  const std::string file = SafetensorsFile({F32Tensor("t", 1'000'000, 1)});
  source_->Put(kModel, file);
  const auto resolved = Resolve();
  ASSERT_TRUE(resolved.ok());
  // The header's read, then all of the file but its last byte.
  source_->HoldReadsAfter((256u << 10) + file.size() - 1);
  std::atomic<bool> published = false;
  std::thread loading([&] {
    EXPECT_TRUE(Load(*resolved).ok());
    published = true;
  });
  ASSERT_TRUE(source_->AwaitHeldRead());
  EXPECT_FALSE(published);
  EXPECT_EQ(tier_->usage().resident, 0u);
  EXPECT_EQ(progress_.bytes_done, file.size() - 1);
  source_->ReleaseReads();
  loading.join();
}

TEST_F(LoaderTest, ALargeIndexStaysChargedWhileItsModelIsResident) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("weight", 1000, 1)},
                                       {.metadata = {{"note", std::string(4 * kMiB, 'n')}}}));
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(tier_->usage().loading, 0u);
  EXPECT_EQ(tier_->usage().resident, model->charged_bytes());
  const uint64_t segments = model->weights->charged_bytes() + model->encoded_index->charged_bytes();
  EXPECT_GE(model->charged_bytes(), segments + 4 * kMiB);
}

TEST_F(LoaderTest, LoadsRunBesideOneAnother) {
  const std::vector<TensorToWrite> tensors = {F32Tensor("t", 400'000, 7)};
  source_->Put(kModel, SafetensorsFile(tensors));
  const auto resolved = Resolve();
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      Progress progress;
      Cancellation cancellation;
      const auto model = loader_->Load(
          *resolved, policy_, /*key=*/std::nullopt,
          [this](uint64_t bytes) { return tier_->Reserve(bytes); }, /*destinations=*/{}, progress,
          cancellation);
      ASSERT_TRUE(model.ok()) << model.status();
      ExpectTensors(*model, tensors);
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectNothingHeld();
}

}  // namespace
}  // namespace weightd::pipeline
