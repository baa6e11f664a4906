// Loads to GPUs: beside host memory, and through a window of it that is far smaller than the model.
// What holds of both is tested with both.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/secret_key.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "tests/daemon/pipeline/load_to_gpus.h"
#include "tests/fakes/checksums.h"
#include "tests/fakes/ctr_file.h"
#include "tests/fakes/fake_gpus.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/safetensors_file.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::pipeline {
namespace {

using fakes::F32Tensor;
using fakes::SafetensorsFile;
using fakes::TensorizerOptions;
using fakes::TensorizerTensor;
using fakes::TensorToWrite;
using fakes::Whole;
using source::ChecksumKind;

constexpr char kTensorizer[] = "http://host/m/model.tensors";
constexpr uint64_t kMiB = 1 << 20;

std::string RandomText(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& c : text) {
    c = static_cast<char>(random());
  }
  return text;
}

// 12 MiB, in tensors of all sizes.
std::vector<TensorToWrite> Tensors() {
  return {F32Tensor("a", 3, 1), F32Tensor("big", 2'000'003, 2),
          TensorToWrite{.name = "none", .shape = {0}, .bytes = ""}, F32Tensor("c", 1'000'000, 3),
          F32Tensor("z", 77, 4)};
}

std::vector<TensorizerTensor> RecordedTensors() {
  return {{.name = "a", .dtype = "|u1", .shape = {3}, .bytes = "xyz"},
          {.name = "big", .dtype = "<f4", .shape = {1'300'001}, .bytes = RandomText(5'200'004, 1)},
          {.name = "none", .dtype = "<f8", .shape = {0, 4}, .bytes = ""},
          {.name = "more", .dtype = "|u1", .shape = {5'000'000}, .bytes = RandomText(5'000'000, 4)},
          {.name = "z", .dtype = "<i2", .shape = {77}, .bytes = RandomText(154, 3)}};
}

TensorizerOptions Encrypted(uint64_t box_bytes) {
  fakes::TensorizerEncryption encryption;
  encryption.box_bytes = box_bytes;
  return {.encryption = std::move(encryption)};
}

// Whether host memory is among the destinations.
class GpuLoad : public LoadToGpus, public testing::WithParamInterface<bool> {
 protected:
  GpuLoad() {
    destinations_.host = GetParam();
    // Copies that are late find other bytes in a window that was slid too early.
    gpus_.CopyLate();
  }

  void ExpectTensors(const std::string& file, const TensorBytes& tensors,
                     const std::string& uri = kModel) {
    source_->Put(uri, file);
    const auto model = ResolveAndLoad(uri);
    ASSERT_TRUE(model.ok()) << model.status();
    ExpectOnGpus(*model, tensors, destinations_.gpus.size());
  }
};

INSTANTIATE_TEST_SUITE_P(Destinations, GpuLoad, testing::Values(true, false),
                         [](const testing::TestParamInfo<bool>& info) {
                           return info.param ? "HostAndGpu" : "GpuOnly";
                         });

TEST_P(GpuLoad, EveryLayoutOfASafetensorsFileComesToTheGpu) {
  for (const uint64_t misalignment : {0, 1, 4}) {
    ExpectTensors(SafetensorsFile(Tensors(), {.misalignment = misalignment, .metadata = {}}),
                  BytesOf(Tensors()));
  }
  std::vector<TensorToWrite> odd = Tensors();
  odd.insert(odd.begin(), {.name = "odd", .shape = {3}, .bytes = "xyz"});
  ExpectTensors(SafetensorsFile(odd), BytesOf(odd));
  ExpectTensors(SafetensorsFile({}), {});
}

TEST_P(GpuLoad, ShardsLieInOneSegment) {
  std::map<std::string, std::string> weight_map;
  std::vector<TensorToWrite> all;
  for (uint32_t i = 0; i < 7; ++i) {
    const std::string name = absl::StrCat("model-", i, ".safetensors");
    all.push_back(F32Tensor(absl::StrCat("t", i), 300'000 + i, i));
    weight_map[all.back().name] = name;
    source_->Put(absl::StrCat("http://host/m/", name),
                 SafetensorsFile({all.back()}, {.misalignment = i, .metadata = {}}));
  }
  source_->Put("http://host/m/model.safetensors.index.json", fakes::ShardIndexFile(weight_map));
  const auto model = ResolveAndLoad("http://host/m/");
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(all), 1);
}

TEST_P(GpuLoad, WhatLiesBesideTheWeightsIsKeptInHostMemory) {
  source_->Put(kModel, SafetensorsFile(Tensors()));
  source_->Put("http://host/m/config.json", "{}");
  source_->Put("http://host/m/vocab.txt", "a");
  const auto model = ResolveAndLoad("http://host/m/");
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(Tensors()), 1);
  ASSERT_EQ(model->index.small_files.size(), 2u);
  ASSERT_NE(model->small_files, nullptr);
  EXPECT_EQ(model->small_file_bytes, 3u);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(model->small_files->bytes().data()), 3),
            "{}a");
}

TEST_P(GpuLoad, TensorizerFilesComeToTheGpu) {
  ExpectTensors(fakes::MakeTensorizerFile(RecordedTensors()).bytes, BytesOf(RecordedTensors()),
                kTensorizer);
}

TEST_P(GpuLoad, TensorsThatAreNotStoredAreZerosOnTheGpu) {
  std::vector<TensorizerTensor> tensors = RecordedTensors();
  tensors[3].bytes.clear();
  const std::string file = fakes::MakeTensorizerFile(tensors, {.version = 4}).bytes;
  tensors[3].bytes = std::string(5'000'000, '\0');
  ExpectTensors(file, BytesOf(tensors), kTensorizer);
}

TEST_P(GpuLoad, EncryptedTensorsAreDecryptedBeforeTheyAreCopied) {
  given_key_ = ModelKey{.secret = format::SecretKey(std::string(32, 'k'))};
  for (const uint64_t box_bytes : {kMiB, 8 * kMiB}) {
    ExpectTensors(fakes::MakeTensorizerFile(RecordedTensors(), Encrypted(box_bytes)).bytes,
                  BytesOf(RecordedTensors()), kTensorizer);
  }
}

TEST_P(GpuLoad, EncryptedFilesAreHashedBeforeTheyAreDecrypted) {
  const std::string file = fakes::MakeTensorizerFile(RecordedTensors(), Encrypted(kMiB)).bytes;
  given_key_ = ModelKey{.secret = format::SecretKey(std::string(32, 'k'))};
  source_->Put(kTensorizer, file);
  source_->SetChecksums(kTensorizer,
                        {Whole(ChecksumKind::kSha256, file), Whole(ChecksumKind::kCrc32c, file)});
  const auto model = ResolveAndLoad(kTensorizer);
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(RecordedTensors()), 1);
  EXPECT_EQ(model->index.verified.size(), 2u);
}

TEST_P(GpuLoad, AWrongKeyIsToldApartAndLeavesNothing) {
  given_key_ = ModelKey{.secret = format::SecretKey(std::string(32, 'x'))};
  source_->Put(kTensorizer, fakes::MakeTensorizerFile(RecordedTensors(), Encrypted(kMiB)).bytes);
  EXPECT_EQ(ReasonOf(ResolveAndLoad(kTensorizer).status()), Reason::kKeyRefused);
  ExpectNothingLeft();
}

TEST_P(GpuLoad, ATensorThatWasTamperedWithLeavesNothing) {
  fakes::TensorizerFile file = fakes::MakeTensorizerFile(RecordedTensors(), Encrypted(kMiB));
  given_key_ = ModelKey{.secret = format::SecretKey(std::string(32, 'k'))};
  file.bytes[file.fields.at("3.data").begin + 3 * kMiB] ^= 1;
  source_->Put(kTensorizer, file.bytes);
  EXPECT_EQ(ReasonOf(ResolveAndLoad(kTensorizer).status()), Reason::kVerificationFailed);
  ExpectNothingLeft();
}

TEST_P(GpuLoad, FilesOfAesCtrAreDecryptedBeforeTheyAreCopied) {
  const fakes::CtrFileOptions options = {.header = true};
  given_key_ = ModelKey{.secret = format::SecretKey(options.key), .ctr_iv = options.iv};
  const std::string file = fakes::CtrFile(SafetensorsFile(Tensors()), options);
  ExpectTensors(file, BytesOf(Tensors()));
  source_->SetChecksums(kModel, {Whole(ChecksumKind::kCrc64Nvme, file)});
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(Tensors()), 1);
}

TEST_P(GpuLoad, AllKindsOfChecksumsAreComparedSideBySide) {
  const std::string file = SafetensorsFile(Tensors());
  source_->Put(kModel, file);
  std::vector<source::Checksum> checksums;
  for (const ChecksumKind kind : source::kChecksumKinds) {
    checksums.push_back(Whole(kind, file));
    checksums.push_back(
        fakes::InParts(kind, file, {10, 100, 5 * kMiB, file.size() - 5 * kMiB - 110}));
  }
  source_->SetChecksums(kModel, checksums);
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(Tensors()), 1);
  EXPECT_EQ(model->index.verified.size(), checksums.size());
}

TEST_P(GpuLoad, PartsOfUnlikeSizesAreAskedForOnceMore) {
  const std::string file = SafetensorsFile(Tensors());
  source_->Put(kModel, file);
  const auto right = fakes::InParts(ChecksumKind::kSha256, file, {kMiB, file.size() - kMiB});
  source::Checksum inferred = right;
  inferred.part_sizes = {2 * kMiB, file.size() - 2 * kMiB};
  source_->SetChecksums(kModel, {right}, {inferred});
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(Tensors()), 1);
}

TEST_P(GpuLoad, PinsDecideWhatComesToTheGpu) {
  const std::string file = SafetensorsFile(Tensors());
  source_->Put(kModel, file);
  const std::string right = source::ShowDigest(source::HashOf(ChecksumKind::kSha256, file), 0);
  for (const std::string& digest : {right, std::string(64, '0')}) {
    LoaderOptions options = Options();
    options.rules_of = [digest](const Uri&) { return LoadRules{.pins = {{"", digest}}}; };
    Remake(options);
    const auto model = ResolveAndLoad();
    if (digest == right) {
      ASSERT_TRUE(model.ok()) << model.status();
      ExpectOnGpus(*model, BytesOf(Tensors()), 1);
    } else {
      EXPECT_EQ(ReasonOf(model.status()), Reason::kVerificationFailed) << model.status();
    }
  }
  ExpectNothingLeft();
}

TEST_P(GpuLoad, SeveralGpusAreFilledByOneRead) {
  destinations_.gpus = {one_, two_};
  const std::string file = SafetensorsFile(Tensors());
  ExpectTensors(file, BytesOf(Tensors()));
  EXPECT_LE(source_->bytes_read(), file.size() + (256 << 10));
}

TEST_P(GpuLoad, AGpuThatFailsInMidLoadLeavesTheOthers) {
  destinations_.gpus = {one_, two_};
  const absl::Status failure = Error(Reason::kDeviceUnavailable, "it fell off the bus");
  source_->Put(kModel, SafetensorsFile(Tensors()));
  source_->HoldReadsAfter(5 * kMiB);
  std::thread failing([&] {
    EXPECT_TRUE(source_->AwaitHeldRead());
    gpus_.FailUploads(one_, failure);
    source_->ReleaseReads();
  });
  const auto model = ResolveAndLoad();
  failing.join();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(Tensors()), 1);
  EXPECT_EQ(model->copies[0]->gpu(), two_);
  ASSERT_EQ(model->copy_failures.size(), 1u);
  EXPECT_EQ(model->copy_failures[0], std::make_pair(one_, failure));
  EXPECT_EQ(gpus_.UsageOf(one_).used(), 0u);
}

TEST_P(GpuLoad, WithoutAnyGpuLeftOnlyTheHostHasTheModel) {
  destinations_.gpus = {one_, two_};
  source_->Put(kModel, SafetensorsFile(Tensors()));
  const absl::Status failure = Error(Reason::kDeviceMemoryShort, "others took it");
  gpus_.RefuseUploads(one_, failure);
  gpus_.FailReserves(two_, failure);
  const auto expect_failures = [&](size_t reads) {
    const auto model = ResolveAndLoad();
    EXPECT_EQ(source_->reads().size() > reads, destinations_.host);
    if (destinations_.host) {
      ASSERT_TRUE(model.ok()) << model.status();
      ExpectOnGpus(*model, BytesOf(Tensors()), 0);
      EXPECT_EQ(model->copy_failures.size(), 2u);
    } else {
      EXPECT_EQ(ReasonOf(model.status()), Reason::kDeviceMemoryShort) << model.status();
    }
  };
  expect_failures(1);
  ExpectNothingLeft();
}

TEST_P(GpuLoad, ALostWorkerFailsItsUpload) {
  source_->Put(kModel, SafetensorsFile(Tensors()));
  source_->HoldReadsAfter(3 * kMiB);
  std::thread losing([&] {
    EXPECT_TRUE(source_->AwaitHeldRead());
    gpus_.Lose(one_, Error(Reason::kDeviceUnavailable, "killed"));
    source_->ReleaseReads();
  });
  {
    const auto model = ResolveAndLoad();
    losing.join();
    EXPECT_EQ(model.ok(), destinations_.host) << model.status();
    if (model.ok()) {
      ExpectOnGpus(*model, BytesOf(Tensors()), 0);
    } else {
      EXPECT_EQ(ReasonOf(model.status()), Reason::kDeviceUnavailable) << model.status();
    }
  }
  ExpectNothingLeft();
  const auto again = ResolveAndLoad();
  ASSERT_TRUE(again.ok()) << again.status();
  ExpectOnGpus(*again, BytesOf(Tensors()), 1);
}

TEST_P(GpuLoad, NothingIsPublishedBeforeTheGpusAreDone) {
  source_->Put(kModel, SafetensorsFile(Tensors()));
  gpus_.CloseGate();
  std::thread opening([&] {
    EXPECT_TRUE(gpus_.AwaitGate());
    EXPECT_EQ(progress_.phase, Phase::kCopying);
    EXPECT_EQ(gpus_.segments_alive(), 0u);
    gpus_.OpenGate();
  });
  const auto model = ResolveAndLoad();
  opening.join();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(progress_.phase, Phase::kDone);
  ExpectOnGpus(*model, BytesOf(Tensors()), 1);
}

TEST_P(GpuLoad, WaitingForGpusIsCancelled) {
  source_->Put(kModel, SafetensorsFile(Tensors()));
  gpus_.CloseGate();
  std::thread cancelling([&] {
    EXPECT_TRUE(gpus_.AwaitGate());
    cancellation_.Cancel(Error(Reason::kShuttingDown, "the daemon stops"));
  });
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kShuttingDown);
  cancelling.join();
  ExpectNothingLeft();
}

TEST_P(GpuLoad, ACancelledTransferLeavesNothing) {
  source_->Put(kModel, SafetensorsFile(Tensors()));
  source_->HoldReadsAfter(6 * kMiB);
  std::thread cancelling([&] {
    EXPECT_TRUE(source_->AwaitHeldRead());
    cancellation_.Cancel(Error(Reason::kShuttingDown, "the daemon stops"));
  });
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kShuttingDown);
  cancelling.join();
  ExpectNothingLeft();
}

TEST_P(GpuLoad, AFailingSourceFailsTheLoadWithItsReason) {
  source_->Put(kModel, SafetensorsFile(Tensors()));
  source_->FailRead(kModel, 7 * kMiB, Error(Reason::kSourceUnavailable, "connection reset"));
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kSourceUnavailable);
  ExpectNothingLeft();
}

TEST_P(GpuLoad, LegacyHandlesAreThePlacements) {
  destinations_.handles = device::Handles::kLegacy;
  source_->Put(kModel, SafetensorsFile(Tensors()));
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->copies.at(0)->legacy_handle().size(), 64u);
}

// Of each sort.
class HostAndGpuLoad : public LoadToGpus {};
class GpuOnlyLoad : public LoadToGpus {
 protected:
  GpuOnlyLoad() {
    destinations_.host = false;
    gpus_.CopyLate();
  }
};

TEST_F(HostAndGpuLoad, CopiesBeginBeforeTheLastByteHasCome) {
  const std::string file = SafetensorsFile(Tensors());
  source_->Put(kModel, file);
  source_->HoldReadsAfter(6 * kMiB);
  std::thread releasing([&] {
    EXPECT_TRUE(source_->AwaitHeldRead());
    EXPECT_TRUE(gpus_.AwaitCopies(4));
    source_->ReleaseReads();
  });
  const auto model = ResolveAndLoad();
  releasing.join();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(Tensors()), 1);
}

TEST_F(HostAndGpuLoad, EncryptedTensorsAreCopiedAsTheyAreOpened) {
  given_key_ = ModelKey{.secret = format::SecretKey(std::string(32, 'k'))};
  source_->Put(kTensorizer, fakes::MakeTensorizerFile(RecordedTensors(), Encrypted(kMiB)).bytes);
  source_->HoldReadsAfter(7 * kMiB);
  std::thread releasing([&] {
    EXPECT_TRUE(source_->AwaitHeldRead());
    EXPECT_TRUE(gpus_.AwaitCopies(5));
    source_->ReleaseReads();
  });
  const auto model = ResolveAndLoad(kTensorizer);
  releasing.join();
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(RecordedTensors()), 1);
}

TEST_F(GpuOnlyLoad, AModelLargerThanTheHostBudgetIsLoaded) {
  // The window and the index.
  SetBudget(kStagingBytes + kPageBytes);
  const std::string file = SafetensorsFile(Tensors());
  ASSERT_GT(file.size(), 5 * kStagingBytes);
  source_->Put(kModel, file);
  {
    const auto model = ResolveAndLoad();
    ASSERT_TRUE(model.ok()) << model.status();
    ExpectOnGpus(*model, BytesOf(Tensors()), 1);
    EXPECT_EQ(model->charged_bytes(), kPageBytes);
  }
  SetBudget(kStagingBytes);
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kBudgetExceeded);
  ExpectNothingLeft();
}

TEST_F(GpuOnlyLoad, AnyWindowWillDo) {
  for (const uint64_t staging : {uint64_t{1}, 4 * kPageBytes, 100'000ul, 64 * kMiB}) {
    LoaderOptions options = Options();
    options.staging_bytes = staging;
    Remake(options);
    const std::vector<TensorToWrite> tensors = {F32Tensor("a", 300'001, 1), F32Tensor("b", 5, 2)};
    const std::string file = SafetensorsFile(tensors, {.misalignment = 5, .metadata = {}});
    source_->Put(kModel, file);
    source_->SetChecksums(kModel, {Whole(ChecksumKind::kSha256, file)});
    const auto model = ResolveAndLoad();
    ASSERT_TRUE(model.ok()) << model.status();
    ExpectOnGpus(*model, BytesOf(tensors), 1);
  }
}

TEST_F(GpuOnlyLoad, ATensorThatHasToBeThereWholeMakesTheWindowLarger) {
  given_key_ = ModelKey{.secret = format::SecretKey(std::string(32, 'k'))};
  TensorizerOptions options = Encrypted(8 * kMiB);
  options.encryption->as_one_box = true;
  source_->Put(kTensorizer, fakes::MakeTensorizerFile(RecordedTensors(), options).bytes);
  SetBudget(kStagingBytes + 4 * kMiB);
  const absl::Status short_of_room = ResolveAndLoad(kTensorizer).status();
  EXPECT_EQ(ReasonOf(short_of_room), Reason::kBudgetExceeded);
  EXPECT_FALSE(HintOf(short_of_room).empty());
  SetBudget(kStagingBytes + 8 * kMiB);
  const auto model = ResolveAndLoad(kTensorizer);
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectOnGpus(*model, BytesOf(RecordedTensors()), 1);
}

TEST_F(GpuOnlyLoad, WaitingForTheWindowIsCancelled) {
  gpus_.HoldCopies();
  source_->Put(kModel, SafetensorsFile(Tensors()));
  std::thread cancelling([&] {
    // The whole window is full, and no GPU takes a byte out of it.
    EXPECT_TRUE(gpus_.AwaitCopies(8));
    cancellation_.Cancel(Error(Reason::kShuttingDown, "the daemon stops"));
  });
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kShuttingDown);
  cancelling.join();
  EXPECT_LE(source_->bytes_read(), kStagingBytes + (256 << 10));
  ExpectNothingLeft();
}

}  // namespace
}  // namespace weightd::pipeline
