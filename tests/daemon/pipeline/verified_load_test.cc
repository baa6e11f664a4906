// Loads from a source that says what its bytes are, and sometimes lies.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/checksum.h"
#include "tests/daemon/pipeline/load_from_memory.h"
#include "tests/fakes/checksums.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::pipeline {
namespace {

using fakes::F32Tensor;
using fakes::InParts;
using fakes::SafetensorsFile;
using fakes::Whole;
using source::ChecksumKind;
using source::ShowDigest;
using testing::HasSubstr;
using testing::SizeIs;

constexpr int kAlways = 1000;

std::string CountVerified(const ModelIndex& index) {
  return absl::StrCat(index.verified.size(), " verified");
}

class VerifiedLoadTest : public LoadFromMemory {
 protected:
  VerifiedLoadTest() : LoadFromMemory(CountVerified) { source_->Put(kModel, file_); }

  void ExpectRefused(const absl::Status& status) {
    EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed) << status;
    EXPECT_THAT(status.message(), HasSubstr("model.safetensors"));
    EXPECT_FALSE(HintOf(status).empty());
    ExpectNothingHeld();
  }

  // How often this byte of the model was asked for.
  int64_t RequestsOf(uint64_t byte) const {
    const auto reads = source_->reads();
    return std::count_if(reads.begin(), reads.end(), [byte](const auto& read) {
      return read.range.begin <= byte && byte < read.range.end;
    });
  }

  const std::string file_ = SafetensorsFile({F32Tensor("weight", 1'500'000, 1)});
};

TEST_F(VerifiedLoadTest, WhatWasVerifiedIsPartOfTheIndex) {
  source_->SetChecksums(kModel, {Whole(ChecksumKind::kCrc64Nvme, file_)});
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_THAT(model->index.verified, SizeIs(1));
  const Verified& verified = model->index.verified[0];
  EXPECT_EQ(verified.file, 0u);
  EXPECT_EQ(verified.kind, ChecksumKind::kCrc64Nvme);
  EXPECT_EQ(verified.value, HashOf(ChecksumKind::kCrc64Nvme, file_));
  EXPECT_EQ(verified.parts, 0u);
  EXPECT_EQ(verified.by, Authority::kStore);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(model->encoded_index->bytes().data()),
                        model->encoded_index_bytes),
            "1 verified");
}

TEST_F(VerifiedLoadTest, NothingIsSaidOfSourcesWithoutChecksums) {
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->index.verified, SizeIs(0));
}

// Files whose tensors are shifted or moved into place are hashed as their writer wrote them.
TEST_F(VerifiedLoadTest, EveryLayoutIsVerified) {
  for (const std::string& file :
       {SafetensorsFile({F32Tensor("a", 700'000, 1)}, {.misalignment = 3, .metadata = {}}),
        SafetensorsFile({{"flags", "BOOL", {3}, "abc"}, F32Tensor("a", 700'000, 1)}),
        SafetensorsFile({})}) {
    source_->Put(kModel, file);
    source_->SetChecksums(kModel, {Whole(ChecksumKind::kCrc32, file),
                                   InParts(ChecksumKind::kSha256, file, {10, file.size() - 10})});
    const auto model = ResolveAndLoad();
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_THAT(model->index.verified, SizeIs(2));
  }
}

TEST_F(VerifiedLoadTest, AFlippedBitIsNeverPublished) {
  for (const auto& checksum :
       {Whole(ChecksumKind::kCrc32c, file_),
        InParts(ChecksumKind::kSha256, file_, {5'000'000, file_.size() - 5'000'000})}) {
    source_->SetChecksums(kModel, {checksum});
    for (const uint64_t at : {uint64_t{100'000}, uint64_t{5'500'000}, file_.size() - 1}) {
      source_->FlipBit(kModel, at, kAlways);
      ExpectRefused(ResolveAndLoad().status());
    }
  }
}

TEST_F(VerifiedLoadTest, ALoadWithAMismatchIsRepeatedOnce) {
  source_->SetChecksums(kModel, {Whole(ChecksumKind::kCrc64Nvme, file_)});
  source_->FlipBit(kModel, 3'000'000, 1);
  auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(memcmp(model->weights->bytes().data() + model->index.pieces[0].offset,
                   file_.data() + file_.size() - 6'000'000, 6'000'000),
            0);
  model = absl::CancelledError();
  source_->FlipBit(kModel, 3'000'000, 2);
  ExpectRefused(ResolveAndLoad().status());
}

// Of a source that has another place for its bytes.
TEST_F(VerifiedLoadTest, ADistrustedPlaceIsReadNoMore) {
  source_->MendWhenDistrusted();
  const std::string config = "http://host/m/config.json";
  source_->Put(config, "{}");
  source_->SetChecksums(config, {Whole(ChecksumKind::kSha256, "{}")});
  // A weight, what the header begins with, and a small file.
  for (const auto& [uri, at] : std::vector<std::pair<std::string, uint64_t>>{
           {kModel, 3'000'000}, {kModel, 7}, {config, 0}}) {
    source_->SetChecksums(kModel, {Whole(ChecksumKind::kSha256, file_)});
    source_->FlipBit(uri, at, kAlways);
    const auto model = ResolveAndLoad("http://host/m/");
    ASSERT_TRUE(model.ok()) << uri << " " << at << ": " << model.status();
  }
}

TEST_F(VerifiedLoadTest, WhatIsMalformedIsReadOnceIfThereIsNoOtherPlace) {
  source_->Put(kModel, std::string(1000, '\xff'));
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kMalformedModel);
  EXPECT_EQ(RequestsOf(0), 1);
}

// Headers are read before anything else: what they were when the layout was made of them counts.
TEST_F(VerifiedLoadTest, ABitFlippedInTheHeaderThatWasParsedIsFound) {
  source_->SetChecksums(kModel, {Whole(ChecksumKind::kCrc32, file_)});
  const size_t name = file_.find("weight");
  source_->FlipBit(kModel, name, 1);
  auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->index.pieces[0].name, "weight") << "of the second try";
  model = absl::CancelledError();
  source_->FlipBit(kModel, name, kAlways);
  ExpectRefused(ResolveAndLoad().status());
}

// Whoever infers part sizes from the first part takes these for other ones.
constexpr uint64_t kInferred = 3'000'000;
const std::vector<uint64_t> UnlikeParts(const std::string& file) {
  return {kInferred, 1'000'000, file.size() - 4'000'000};
}
source::Checksum WronglyInferred(source::Checksum checksum, const std::string& file) {
  checksum.part_sizes = {kInferred, kInferred, file.size() - 2 * kInferred};
  return checksum;
}

TEST_F(VerifiedLoadTest, PartsOfUnlikeSizesAreAskedForAndNothingIsReadTwice) {
  const source::Checksum right = InParts(ChecksumKind::kSha256, file_, UnlikeParts(file_));
  source_->SetChecksums(kModel, {right}, {WronglyInferred(right, file_)});
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_THAT(model->index.verified, SizeIs(1));
  EXPECT_EQ(model->index.verified[0].parts, 3u);
  EXPECT_EQ(RequestsOf(kInferred), 1);
  EXPECT_EQ(RequestsOf(file_.size() - 1), 1);
}

TEST_F(VerifiedLoadTest, DamageIsFoundInPartsOfUnlikeSizesToo) {
  const source::Checksum right = InParts(ChecksumKind::kSha256, file_, UnlikeParts(file_));
  source_->SetChecksums(kModel, {right}, {WronglyInferred(right, file_)});
  source_->FlipBit(kModel, 3'500'000, 1);
  {
    const auto model = ResolveAndLoad();
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(RequestsOf(file_.size() - 1), 2);
  }
  source_->FlipBit(kModel, file_.find("weight"), 1);
  {
    const auto model = ResolveAndLoad();
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->index.pieces[0].name, "weight") << "of the second try";
  }
  source_->FlipBit(kModel, 3'500'000, kAlways);
  ExpectRefused(ResolveAndLoad().status());
}

// What a resident model's bytes are computed to be is what sha256sum says of the file.
TEST_F(VerifiedLoadTest, TheDigestOfResidentBytesIsThatOfTheFileInEveryLayout) {
  for (const std::string& file :
       {file_, SafetensorsFile({F32Tensor("a", 700'000, 1)}, {.misalignment = 3, .metadata = {}}),
        SafetensorsFile({{"flags", "BOOL", {3}, "abc"},
                         F32Tensor("z", 700'000, 1),
                         {"none", "F64", {0}, ""},
                         F32Tensor("a", 300, 2)}),
        SafetensorsFile({})}) {
    source_->Put(kModel, file);
    const auto model = ResolveAndLoad();
    ASSERT_TRUE(model.ok()) << model.status();
    const Pins right = {{"model.safetensors", ShowDigest(HashOf(ChecksumKind::kSha256, file), 0)}};
    const Pins wrong = {{"", std::string(64, '0')}};
    Digests& digests = *model->digests;
    EXPECT_FALSE(digests.Hold(model->index.files, right).value());
    ASSERT_TRUE(digests.Compute(model->index, *model->weights, right, cancellation_).ok());
    EXPECT_TRUE(digests.Hold(model->index.files, right).value());
    EXPECT_EQ(ReasonOf(digests.Hold(model->index.files, wrong).status()),
              Reason::kVerificationFailed);
    EXPECT_THAT(digests.verified(), SizeIs(1));
  }
}

TEST_F(VerifiedLoadTest, WhatTheStoreVerifiedNeedsNoSecondLook) {
  source_->SetChecksums(kModel, {Whole(ChecksumKind::kSha256, file_)});
  const auto model = ResolveAndLoad();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(
      model->digests
          ->Hold(model->index.files, {{"", ShowDigest(HashOf(ChecksumKind::kSha256, file_), 0)}})
          .value());
}

TEST_F(VerifiedLoadTest, PinsOfTheConfigDecideWhatLoads) {
  const auto with_pins = [this](Pins pins) {
    LoaderOptions options;
    options.rules_of = [pins = std::move(pins)](const Uri& uri) {
      return LoadRules{.pins = uri == *Uri::Parse(kModel) ? pins : Pins()};
    };
    loader_ = MakeModelLoader(
        &registry_, [](const ModelIndex&) { return std::string("index"); }, options);
    return ResolveAndLoad();
  };
  const std::string digest = ShowDigest(HashOf(ChecksumKind::kSha256, file_), 0);
  {
    const auto model = with_pins({{"", digest}});
    ASSERT_TRUE(model.ok()) << model.status();
    ASSERT_THAT(model->index.verified, SizeIs(1));
    EXPECT_EQ(model->index.verified[0].by, Authority::kPin);
  }
  const uint64_t before = source_->bytes_read();
  ExpectRefused(with_pins({{"model.safetensors", std::string(64, '0')}}).status());
  EXPECT_LT(source_->bytes_read() - before, 2 * file_.size())
      << "a wrong pin is no reason to repeat";
  EXPECT_EQ(ReasonOf(with_pins({{"other.safetensors", digest}}).status()),
            Reason::kInvalidArgument);
}

TEST_F(VerifiedLoadTest, AChecksumOfAnotherVersionIsNotUsed) {
  const auto resolved = Resolve();
  ASSERT_TRUE(resolved.ok());
  source_->Put(kModel, file_);
  EXPECT_EQ(ReasonOf(Load(*resolved).status()), Reason::kSourceChanged);
}

}  // namespace
}  // namespace weightd::pipeline
