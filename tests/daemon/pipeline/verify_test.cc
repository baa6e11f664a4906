#include "daemon/pipeline/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "daemon/pipeline/arrivals.h"
#include "daemon/pipeline/plan.h"
#include "tests/fakes/checksums.h"

namespace weightd::pipeline {
namespace {

using fakes::InParts;
using fakes::Whole;
using PartSizes = source::Source::PartSizes;
using testing::HasSubstr;

constexpr uint64_t kHeader = 1234;

std::string RandomText(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& c : text) {
    c = static_cast<char>(random());
  }
  return text;
}

// Two files whose bytes come in chunks in an order of the test's own.
class VerifyTest : public testing::Test {
 protected:
  VerifyTest() {
    for (uint32_t i = 0; i < 2; ++i) {
      texts_.push_back(RandomText(900'000 + i, i));
      files_.push_back({.name = absl::StrCat("file", i), .version = {}});
      files_[i].version.size = texts_[i].size();
    }
    // The second one without its header, as a file that is placed tensor by tensor lies in its
    // segment.
    const std::vector<Extent> extents = {{0, {0, texts_[0].size()}, 0},
                                         {1, {kHeader, texts_[1].size()}, 1 << 20}};
    chunks_ = PlanTransfer(extents, 64 << 10);
    segment_.resize(2 << 20);
  }

  absl::Status Verify(std::vector<Expected> expected, uint32_t seed = 1) {
    Verifier verifier(files_, std::move(expected), PartSizes::kAsked);
    for (uint32_t file = 0; file < 2; ++file) {
      verifier.TakeHeader(file, absl::string_view(texts_[file]).substr(0, kHeader));
    }
    std::vector<size_t> order(chunks_.size());
    for (size_t i = 0; i < order.size(); ++i) {
      order[i] = i;
    }
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    Cancellation transfer;
    Arrivals arrivals(chunks_);
    verifier.Start(arrivals, segment_.data(), transfer);
    for (const size_t i : order) {
      const Extent& chunk = chunks_[i];
      memcpy(segment_.data() + chunk.offset, texts_[chunk.file].data() + chunk.bytes.begin,
             chunk.bytes.size());
      arrivals.OnChunk(i);
    }
    const absl::Status status = verifier.Finish();
    EXPECT_EQ(transfer.cancelled(), !status.ok());
    return status;
  }

  std::vector<std::string> texts_;
  std::vector<ModelFile> files_;
  std::vector<Extent> chunks_;
  std::vector<std::byte> segment_;
};

TEST_F(VerifyTest, EveryKindHoldsInAnyOrderOfChunks) {
  for (const source::ChecksumKind kind : source::kChecksumKinds) {
    for (uint32_t seed = 0; seed < 5; ++seed) {
      EXPECT_EQ(Verify({{0, Whole(kind, texts_[0]), Authority::kStore},
                        {1, Whole(kind, texts_[1]), Authority::kPin},
                        {1, InParts(kind, texts_[1], {1000, 600'000, 299'001}), Authority::kStore}},
                       seed),
                absl::OkStatus());
    }
  }
}

TEST_F(VerifyTest, APartMayEndInTheHeaderOrBeAllOfIt) {
  const auto kind = source::ChecksumKind::kCrc32c;
  EXPECT_EQ(Verify({{1, InParts(kind, texts_[1], {kHeader, 1, 898'766}), Authority::kStore}}),
            absl::OkStatus());
  EXPECT_EQ(Verify({{1, InParts(kind, texts_[1], {900'001}), Authority::kStore}}),
            absl::OkStatus());
}

TEST_F(VerifyTest, AFlippedBitAnywhereIsFoundAndSaysWhere) {
  const auto kind = source::ChecksumKind::kCrc64Nvme;
  const std::vector<Expected> expected = {
      {0, Whole(kind, texts_[0]), Authority::kStore},
      {1, InParts(kind, texts_[1], {450'000, 450'001}), Authority::kStore}};
  for (const uint32_t file : {0U, 1U}) {
    for (const size_t at : {size_t{0}, size_t{kHeader}, size_t{450'000}, texts_[file].size() - 1}) {
      texts_[file][at] ^= 16;
      const absl::Status status = Verify(expected);
      texts_[file][at] ^= 16;
      EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed);
      EXPECT_THAT(status.message(), HasSubstr(absl::StrCat("file", file, ": its crc64nvme is ")));
      EXPECT_THAT(status.message(), HasSubstr("but the store says "));
    }
  }
}

TEST_F(VerifyTest, OneWrongPinAmongRightValuesIsFound) {
  source::Checksum wrong = Whole(source::ChecksumKind::kSha256, texts_[0]);
  wrong.value[5] ^= 1;
  const absl::Status status =
      Verify({{0, Whole(source::ChecksumKind::kSha256, texts_[0]), Authority::kStore},
              {0, wrong, Authority::kPin}});
  EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed);
  EXPECT_THAT(status.message(), HasSubstr("but the pin says "));
}

TEST_F(VerifyTest, AMismatchStopsTheTransferBeforeItsEnd) {
  std::vector<std::string> wrong = texts_;
  wrong[0][0] ^= 1;
  Verifier verifier(
      files_,
      {{0, InParts(source::ChecksumKind::kCrc32, wrong[0], {4096, 895'904}), Authority::kStore}},
      PartSizes::kAsked);
  verifier.TakeHeader(0, absl::string_view(texts_[0]).substr(0, kHeader));
  Cancellation transfer;
  Arrivals arrivals(chunks_);
  std::atomic<bool> stopped = false;
  const auto told = transfer.OnCancel([&] {
    arrivals.Stop();
    stopped = true;
    stopped.notify_all();
  });
  verifier.Start(arrivals, segment_.data(), transfer);
  for (size_t i = 0; i < chunks_.size() && chunks_[i].file == 0; ++i) {
    arrivals.OnChunk(i);
  }
  stopped.wait(false);
  EXPECT_EQ(ReasonOf(verifier.Finish()), Reason::kVerificationFailed);
}

TEST_F(VerifyTest, WherePartSizesWereInferredAMismatchIsInDoubtAndStopsNothing) {
  const source::Checksum composite =
      InParts(source::ChecksumKind::kCrc32, texts_[1], {4096, 895'904});
  Verifier verifier(files_, {{0, composite, Authority::kStore}}, PartSizes::kInferred);
  verifier.TakeHeader(0, absl::string_view(texts_[0]).substr(0, kHeader));
  Cancellation transfer;
  Arrivals arrivals(chunks_);
  verifier.Start(arrivals, segment_.data(), transfer);
  for (size_t i = 0; i < chunks_.size(); ++i) {
    arrivals.OnChunk(i);
  }
  EXPECT_EQ(ReasonOf(verifier.Finish()), Reason::kVerificationFailed);
  EXPECT_TRUE(verifier.in_doubt());
  EXPECT_FALSE(transfer.cancelled());
}

TEST_F(VerifyTest, ATransferThatEndsEarlyEndsTheWait) {
  Verifier verifier(files_,
                    {{0, Whole(source::ChecksumKind::kCrc32, texts_[0]), Authority::kStore},
                     {1, Whole(source::ChecksumKind::kCrc32, texts_[1]), Authority::kStore}},
                    PartSizes::kAsked);
  Cancellation transfer;
  Arrivals arrivals(chunks_);
  const auto link = transfer.OnCancel([&arrivals] { arrivals.Stop(); });
  verifier.Start(arrivals, segment_.data(), transfer);
  arrivals.OnChunk(0);
  transfer.Cancel(Error(Reason::kSourceUnavailable, "reset"));
  EXPECT_EQ(ReasonOf(verifier.Finish()), Reason::kSourceUnavailable);
}

TEST_F(VerifyTest, WithoutExpectationsNothingIsHashed) { EXPECT_EQ(Verify({}), absl::OkStatus()); }

}  // namespace
}  // namespace weightd::pipeline
