#include <algorithm>
#include <cstring>
#include <thread>

#include "common/mapping.h"
#include "common/status.h"
#include "tests/daemon/device/gpu_fixture.h"

namespace weightd::device {
namespace {

using UploadTest = GpuFixture;

TEST_F(UploadTest, WhatIsUploadedIsReadByOthers) {
  Start();
  auto segment = Upload(3 * kMiB);
  ASSERT_NE(segment, nullptr);
  EXPECT_EQ(segment->bytes(), 4 * kMiB);
  EXPECT_EQ(segment->gpu(), Gpu());
  EXPECT_FALSE(segment->is_private());
  EXPECT_FALSE(segment->lost());
  const std::string read = Read(*segment);
  EXPECT_TRUE(read.substr(0, 3 * kMiB) == Pattern(3 * kMiB));
  EXPECT_TRUE(read.substr(3 * kMiB) == std::string(kMiB, '\0'));
  EXPECT_EQ(Read(*segment), read) << "the second client";
  EXPECT_EQ(gpus_->UsageOf(Gpu()).resident, 4 * kMiB);
  EXPECT_EQ(LiveBytes(), 4 * kMiB);
  segment->Drain();
  EXPECT_EQ(gpus_->UsageOf(Gpu()).draining, 4 * kMiB);
  segment.reset();
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
  EXPECT_EQ(LiveBytes(), 0);
}

TEST_F(UploadTest, ASegmentLargerThanTheRing) {
  Start();
  const auto segment = Upload(5 * kMiB + 12345);
  ASSERT_NE(segment, nullptr);
  EXPECT_TRUE(Read(*segment).substr(0, 5 * kMiB + 12345) == Pattern(5 * kMiB + 12345));
}

// Tensors of many sizes, each moved to a multiple of 256.
std::vector<CopyRun> Realigned(uint64_t bytes) {
  std::vector<CopyRun> runs;
  uint64_t device = 0;
  for (uint64_t at = 13, size = 1; at < bytes; at += size + 5, size = (size * 7 + 3) % 300'007) {
    runs.push_back({{at, std::min(at + size, bytes)}, device});
    device = AlignUp(device + runs.back().host.size(), 256);
  }
  return runs;
}

TEST_F(UploadTest, PiecesInAnyOrderLandWhereTheirRunsSay) {
  Start();
  constexpr uint64_t kBytes = 4 * kMiB;
  const std::vector<CopyRun> runs = Realigned(kBytes);
  const auto upload = gpus_->BeginUpload(Plan(kBytes, runs));
  ASSERT_TRUE(upload.ok()) << upload.status();
  constexpr uint64_t kPiece = 77'777;
  std::vector<uint64_t> copies;
  for (uint64_t piece = AlignDown(kBytes, 1) / kPiece + 1; piece-- > 0;) {
    const ByteRange host{piece * kPiece, std::min((piece + 1) * kPiece, kBytes)};
    copies.push_back((*upload)->Copy(host, host.begin));
  }
  for (const uint64_t copy : copies) {
    ASSERT_TRUE((*upload)->Await(copy, never_).ok());
  }
  const auto segment = (*upload)->Finish(never_);
  ASSERT_TRUE(segment.ok()) << segment.status();
  const std::string read = Read(**segment);
  std::string expected((*segment)->bytes(), '\0');
  for (const CopyRun& run : runs) {
    for (uint64_t i = 0; i < run.host.size(); ++i) {
      expected[run.device_offset + i] = PatternAt(run.host.begin + i);
    }
  }
  EXPECT_TRUE(read == expected);
}

TEST_F(UploadTest, WhatNoRunFillsIsZeroAlsoInMemoryThatWasUsed) {
  Start();
  Upload(8 * kMiB).reset();
  const auto upload = gpus_->BeginUpload(Plan(8, {{{0, 4}, 0}, {{4, 8}, kMiB}}));
  ASSERT_TRUE(upload.ok()) << upload.status();
  (*upload)->Copy({0, 8}, 0);
  const auto segment = (*upload)->Finish(never_);
  ASSERT_TRUE(segment.ok()) << segment.status();
  const std::string read = Read(**segment);
  EXPECT_EQ(read.substr(4, kMiB - 4), std::string(kMiB - 4, '\0'));
  EXPECT_EQ(read.substr(kMiB, 4), Pattern(8).substr(4));
}

TEST_F(UploadTest, UploadsAtOnceOnTwoGpus) {
  Start();
  std::vector<std::shared_ptr<Segment>> segments(4);
  std::vector<std::thread> threads;
  threads.reserve(segments.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    threads.emplace_back(
        [this, &segments, i] { segments[i] = Upload((2 + i) * kMiB, static_cast<int>(i % 2)); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (size_t i = 0; i < segments.size(); ++i) {
    ASSERT_NE(segments[i], nullptr);
    EXPECT_TRUE(Read(*segments[i]).substr(0, (2 + i) * kMiB) == Pattern((2 + i) * kMiB));
  }
  EXPECT_NE(Status(0).worker_pid, Status(1).worker_pid);
}

TEST_F(UploadTest, ASmallUploadDoesNotWaitForALargeOne) {
  setenv("FAKE_CUDA_COPY_DELAY_US", "5000", 1);
  Start();
  const auto large = gpus_->BeginUpload(Plan(64 * kMiB, {Whole(64 * kMiB)}));
  ASSERT_TRUE(large.ok()) << large.status();
  const uint64_t copy = (*large)->Copy({0, 64 * kMiB}, 0);
  EXPECT_NE(Upload(kMiB), nullptr);
  Cancellation now;
  now.Cancel(Error(Reason::kCancelled, "not yet"));
  EXPECT_EQ(ReasonOf((*large)->Await(copy, now)), Reason::kCancelled);
}

// As a load does that never has the whole model in host memory.
TEST_F(UploadTest, APinnedWindowIsUsedAgain) {
  Start();
  constexpr uint64_t kWindow = 1 * kMiB;
  constexpr uint64_t kBytes = 4 * kMiB;
  UploadPlan plan = Plan(kWindow, {Whole(kBytes)});
  plan.pin_source = true;
  const auto window = Mapping::Map(plan.source.get(), kWindow, Mapping::Access::kSharedWritable);
  ASSERT_TRUE(window.ok());
  const auto upload = gpus_->BeginUpload(std::move(plan));
  ASSERT_TRUE(upload.ok()) << upload.status();
  for (uint64_t at = 0; at < kBytes; at += kWindow) {
    for (uint64_t i = 0; i < kWindow; ++i) {
      window->data()[i] = static_cast<std::byte>(PatternAt(at + i));
    }
    ASSERT_TRUE((*upload)->Await((*upload)->Copy({at, at + kWindow}, 0), never_).ok());
  }
  const auto segment = (*upload)->Finish(never_);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_TRUE(Read(**segment) == Pattern(kBytes));
}

TEST_F(UploadTest, WhatWasNotCopiedWholeFails) {
  Start();
  const auto upload = gpus_->BeginUpload(Plan(kMiB, {Whole(kMiB)}));
  ASSERT_TRUE(upload.ok()) << upload.status();
  (*upload)->Copy({0, kMiB - 1}, 0);
  EXPECT_EQ(ReasonOf((*upload)->Finish(never_).status()), Reason::kInternal);
}

TEST_F(UploadTest, BytesBeyondTheSourceFail) {
  Start();
  const auto upload = gpus_->BeginUpload(Plan(kMiB, {Whole(kMiB)}));
  ASSERT_TRUE(upload.ok()) << upload.status();
  const uint64_t beyond = (*upload)->Copy({0, kMiB}, 1);
  EXPECT_EQ(ReasonOf((*upload)->Await(beyond, never_)), Reason::kInternal);
  EXPECT_EQ(ReasonOf((*upload)->Finish(never_).status()), Reason::kInternal);
  EXPECT_EQ(Status().state, GpuStatus::State::kRunning);
}

TEST_F(UploadTest, RunsThatLeaveTheSegmentAreRefused) {
  Start();
  UploadPlan plan = Plan(kMiB, {Whole(kMiB)});
  plan.runs = {{{0, kMiB}, 2 * kMiB}};
  EXPECT_EQ(ReasonOf(gpus_->BeginUpload(std::move(plan)).status()), Reason::kInternal);
}

TEST_F(UploadTest, AnUploadThatIsDroppedFreesEverything) {
  Start();
  setenv("FAKE_CUDA_COPY_DELAY_US", "2000", 1);
  {
    const auto upload = gpus_->BeginUpload(Plan(32 * kMiB, {Whole(32 * kMiB)}));
    ASSERT_TRUE(upload.ok()) << upload.status();
    (*upload)->Copy({0, 32 * kMiB}, 0);
    EXPECT_EQ(LiveBytes(), 32 * kMiB);
  }
  EXPECT_EQ(LiveBytes(), 0);
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
}

TEST_F(UploadTest, ASegmentOfNothing) {
  Start();
  const auto segment = TryUpload(0);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ((*segment)->bytes(), Budget::kGranularity);
}

TEST_F(UploadTest, PrivateCopiesOfASegment) {
  Start();
  auto segment = Upload(3 * kMiB);
  ASSERT_NE(segment, nullptr);
  auto copy = gpus_->CopyPrivately(PrivatePlan(3 * kMiB, segment), never_);
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_TRUE((*copy)->is_private());
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 8 * kMiB);
  auto fd = (*copy)->OpenForClient();
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 4 * kMiB) << "it is the client's";
  EXPECT_FALSE((*copy)->OpenForClient().ok());
  copy->reset();
  segment.reset();
  gpus_.reset();
  EXPECT_EQ(LiveBytes(), 4 * kMiB) << "of the client";
  EXPECT_TRUE(ReadMemory(fd->get(), 4 * kMiB).substr(0, 3 * kMiB) == Pattern(3 * kMiB));
}

TEST_F(UploadTest, APrivateCopyOfAHostSegment) {
  Start();
  const auto copy = gpus_->CopyPrivately(PrivatePlan(3 * kMiB, nullptr), never_);
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_TRUE(Read(**copy).substr(0, 3 * kMiB) == Pattern(3 * kMiB));
}

TEST_F(UploadTest, APrivateCopyThatNobodyTakesIsFreed) {
  Start();
  gpus_->CopyPrivately(PrivatePlan(3 * kMiB, nullptr), never_)->reset();
  EXPECT_EQ(LiveBytes(), 0);
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
}

TEST_F(UploadTest, LegacyHandlesAreOpenedByOtherProcesses) {
  Start();
  const auto segment = TryUpload(2 * kMiB, Handles::kLegacy);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ((*segment)->handles(), Handles::kLegacy);
  EXPECT_FALSE((*segment)->OpenForClient().ok());
  ASSERT_EQ((*segment)->legacy_handle().size(), sizeof(cuda::CUipcMemHandle));
  cuda::CUipcMemHandle handle;
  std::memcpy(handle.reserved, (*segment)->legacy_handle().data(), sizeof(handle));
  const auto context = ClientContext();
  const auto memory = CudaMemory::OpenLegacy(context, handle, 2 * kMiB);
  ASSERT_TRUE(memory.ok()) << memory.status();
  std::string read(2 * kMiB, '?');
  const CudaContext::Current current(*context);
  EXPECT_EQ(context->driver().cuMemcpyDtoH(read.data(), memory->pointer(), read.size()), 0);
  EXPECT_TRUE(read == Pattern(2 * kMiB));
}

}  // namespace
}  // namespace weightd::device
