// Loads that fail, each for its reason, and leave nothing behind.

#include <cstdint>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/model.h"
#include "gtest/gtest.h"
#include "tests/daemon/pipeline/load_from_memory.h"
#include "tests/fakes/memory_source.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::pipeline {
namespace {

using fakes::F32Tensor;
using fakes::SafetensorsFile;

constexpr uint64_t kMiB = 1 << 20;

class FailedLoadTest : public LoadFromMemory {
 protected:
  FailedLoadTest() : LoadFromMemory([](const ModelIndex&) { return std::string("index"); }) {}
};

TEST_F(FailedLoadTest, ACancelledTransferEndsAndFreesEverything) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 4'000'000, 1)}));
  const auto resolved = Resolve();
  ASSERT_TRUE(resolved.ok());
  source_->HoldReadsAfter(3 * kMiB);
  absl::Status status;
  std::thread loading([&] { status = Load(*resolved).status(); });
  ASSERT_TRUE(source_->AwaitHeldRead());
  EXPECT_GT(tier_->usage().loading, 16'000'000u);
  cancellation_.Cancel(Error(Reason::kShuttingDown, "the daemon stops"));
  loading.join();
  EXPECT_EQ(ReasonOf(status), Reason::kShuttingDown) << status;
  ExpectNothingHeld();
}

TEST_F(FailedLoadTest, ALoadCancelledBeforehandReadsNothing) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 100, 1)}));
  const auto resolved = Resolve();
  cancellation_.Cancel(Error(Reason::kCancelled, "gone"));
  EXPECT_EQ(ReasonOf(Load(*resolved).status()), Reason::kCancelled);
  EXPECT_EQ(source_->bytes_read(), 0u);
  ExpectNothingHeld();
}

TEST_F(FailedLoadTest, AModelThatDoesNotFitMovesNoWeight) {
  SetBudget(8 * kMiB);
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 3'000'000, 1)}));
  const auto model = ResolveAndLoad();
  EXPECT_EQ(ReasonOf(model.status()), Reason::kBudgetExceeded);
  EXPECT_EQ(model.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(model.status().message(), kModel)) << model.status();
  EXPECT_TRUE(absl::StrContains(model.status().message(), "8.0 MiB")) << model.status();
  EXPECT_FALSE(HintOf(model.status()).empty());
  ASSERT_EQ(source_->reads().size(), 1u) << "only the header";
  EXPECT_LE(source_->reads()[0].range.end, 256u << 10);
  ExpectNothingHeld();
}

TEST_F(FailedLoadTest, TheIndexIsChargedToo) {
  const std::string file = SafetensorsFile({F32Tensor("t", 1'000'000, 1)});
  source_->Put(kModel, file);
  SetBudget(AlignUp(file.size(), kPageBytes));
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kBudgetExceeded);
  SetBudget(AlignUp(file.size(), kPageBytes) + kPageBytes);
  EXPECT_TRUE(ResolveAndLoad().ok());
}

TEST_F(FailedLoadTest, ParsingALargeHeaderIsChargedToTheBudget) {
  const std::string file = SafetensorsFile({F32Tensor("weight", 1000, 1)},
                                           {.metadata = {{"note", std::string(4 * kMiB, 'n')}}});
  source_->Put(kModel, file);
  SetBudget(16 * kMiB);
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kBudgetExceeded);
  EXPECT_LT(source_->bytes_read(), kMiB);
  ExpectNothingHeld();
  SetBudget(128 * kMiB);
  EXPECT_TRUE(ResolveAndLoad().ok());
  ExpectNothingHeld();
}

TEST_F(FailedLoadTest, AnObjectThatChangedSinceItWasResolvedIsToldApart) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 100, 1)}));
  const auto resolved = Resolve();
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 100, 2)}));
  EXPECT_EQ(ReasonOf(Load(*resolved).status()), Reason::kSourceChanged);
  ExpectNothingHeld();
}

TEST_F(FailedLoadTest, AnObjectThatChangesUnderTheTransferIsNeverMixed) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 1'000'000, 1)}));
  const auto resolved = Resolve();
  source_->HoldReadsAfter(2 * kMiB);
  absl::Status status;
  std::thread loading([&] { status = Load(*resolved).status(); });
  ASSERT_TRUE(source_->AwaitHeldRead());
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 1'000'000, 2)}));
  source_->ReleaseReads();
  loading.join();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged);
  ExpectNothingHeld();
}

TEST_F(FailedLoadTest, AFailingSourceFailsTheLoadWithItsReasonAndTheModelsNameOnce) {
  source_->Put(kModel, SafetensorsFile({F32Tensor("t", 1'000'000, 1)}));
  source_->FailRead(kModel, 3 * kMiB, Error(Reason::kSourceUnavailable, "connection reset"));
  const auto model = ResolveAndLoad();
  EXPECT_EQ(ReasonOf(model.status()), Reason::kSourceUnavailable);
  EXPECT_EQ(model.status().message(), absl::StrCat(kModel, ": connection reset"));
  ExpectNothingHeld();
}

TEST_F(FailedLoadTest, SecretsOfAUriStayOutOfErrorsAndLabels) {
  const std::string uri = "http://me:pass@host/m/a.safetensors?token=secret";
  source_->Put(uri, SafetensorsFile({F32Tensor("t", 1'000'000, 1)}));
  source_->FailRead(uri, 3 * kMiB, Error(Reason::kSourceUnavailable, "connection reset"));
  const absl::Status failed = ResolveAndLoad(uri).status();
  EXPECT_FALSE(absl::StrContains(failed.message(), "secret")) << failed;
  EXPECT_FALSE(absl::StrContains(failed.message(), "pass")) << failed;
  source_->FailRead(uri, 0, absl::OkStatus());
  auto model = ResolveAndLoad(uri);
  ASSERT_TRUE(model.ok());
  const auto held = model->weights->OpenForClient("l");
  model->weights.reset();
  ASSERT_EQ(tier_->draining().size(), 1u);
  EXPECT_TRUE(absl::StrContains(tier_->draining()[0].label, "http://host/m/a.safetensors@"));
  EXPECT_FALSE(absl::StrContains(tier_->draining()[0].label, "secret"));
}

TEST_F(FailedLoadTest, MalformedFilesAreRefusedWithNothingReserved) {
  std::string file = SafetensorsFile({F32Tensor("t", 1000, 1)});
  file.pop_back();
  source_->Put(kModel, file);
  const auto model = ResolveAndLoad();
  EXPECT_EQ(ReasonOf(model.status()), Reason::kMalformedModel);
  EXPECT_TRUE(absl::StrContains(model.status().message(), "model.safetensors"));
  source_->Put(kModel, "");
  EXPECT_EQ(ReasonOf(ResolveAndLoad().status()), Reason::kMalformedModel);
  ExpectNothingHeld();
}

TEST_F(FailedLoadTest, AnUnknownSchemeIsUnsupported) {
  EXPECT_EQ(ReasonOf(Resolve("https://host/m.safetensors").status()), Reason::kUnsupported);
}

}  // namespace
}  // namespace weightd::pipeline
