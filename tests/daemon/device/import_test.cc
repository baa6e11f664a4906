#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/cuda_memory.h"
#include "common/fd.h"
#include "common/status.h"
#include "gtest/gtest.h"
#include "tests/daemon/device/gpu_fixture.h"
#include "tests/fakes/fake_cuda/fake_cuda.h"

namespace weightd::device {
namespace {

constexpr uint64_t kBytes = 3 * kMiB;
constexpr char kMark[] = "0123456789abcdef0123456789abcdef";

// A segment that was made by one daemon's worker, and is taken by the next one's.
class ImportTest : public GpuFixture {
 protected:
  void SetUp() override {
    GpuFixture::SetUp();
    Start();
  }

  // A descriptor of a marked segment, which is all that is left of it.
  Fd Left(uint64_t bytes = kBytes, const std::string& mark = kMark, int index = 0) {
    UploadPlan plan = Plan(bytes, {Whole(bytes)}, index);
    plan.reservation = Reserve(bytes + kMarkBytes, index);
    plan.mark = mark;
    const auto upload = gpus_->BeginUpload(std::move(plan));
    EXPECT_TRUE(upload.ok()) << upload.status();
    (*upload)->Copy({0, bytes}, 0);
    const auto segment = (*upload)->Finish(never_);
    EXPECT_TRUE(segment.ok()) << segment.status();
    return (*segment)->OpenForClient().value();
  }

  absl::StatusOr<std::shared_ptr<Segment>> Import(const Fd& exported, uint64_t bytes = kBytes,
                                                  const std::string& mark = kMark, int index = 0) {
    ASSIGN_OR_RETURN(ImportPlan plan, PlanOf(exported, bytes, mark, index));
    return gpus_->Import(plan, never_);
  }
  absl::StatusOr<ImportPlan> PlanOf(const Fd& exported, uint64_t bytes = kBytes,
                                    const std::string& mark = kMark, int index = 0) {
    ASSIGN_OR_RETURN(Reservation room, gpus_->ReserveHeld(Gpu(index), bytes));
    ASSIGN_OR_RETURN(Fd copy, exported.Duplicate());
    return ImportPlan{.reservation = std::move(room),
                      .device_bytes = bytes,
                      .mark = mark,
                      .exported = std::move(copy)};
  }

  // As something that it isn't; nothing is left of the attempt, and the worker works on.
  void ExpectRefused(const Fd& exported, absl::string_view why, uint64_t bytes = kBytes,
                     const std::string& mark = kMark) {
    const uint64_t live = LiveBytes();
    const auto imported = Import(exported, bytes, mark);
    EXPECT_EQ(ReasonOf(imported.status()), Reason::kVerificationFailed) << imported.status();
    EXPECT_TRUE(absl::StrContains(imported.status().message(), why)) << imported.status();
    EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
    EXPECT_EQ(LiveBytes(), live);
    EXPECT_EQ(Status().state, GpuStatus::State::kRunning);
    EXPECT_NE(Upload(kMiB), nullptr);
  }
};

TEST_F(ImportTest, WhatAnEarlierDaemonLeftIsTheSameSegment) {
  const Fd left = Left();
  const uint64_t created = fake_cuda::CreatedAllocations(dir_, 0);
  Start();  // the daemon's end, and the next one
  ASSERT_EQ(LiveBytes(), 4 * kMiB);
  ASSERT_TRUE(WorkersOn().empty());
  const auto segment = Import(left);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_EQ((*segment)->bytes(), 4 * kMiB);
  EXPECT_EQ((*segment)->gpu(), Gpu());
  EXPECT_EQ((*segment)->handles(), Handles::kDescriptor);
  EXPECT_FALSE((*segment)->is_private());
  EXPECT_EQ(Read(**segment).substr(0, kBytes), Pattern(kBytes));
  EXPECT_EQ(gpus_->UsageOf(Gpu()).resident, 4 * kMiB);
  // As good a source as any.
  const auto copied = gpus_->CopyPrivately(PrivatePlan(kBytes, *segment), never_);
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_EQ(Read(**copied).substr(0, kBytes), Pattern(kBytes));
  EXPECT_EQ(fake_cuda::CreatedAllocations(dir_, 0), created + 1) << "only the private copy";
}

TEST_F(ImportTest, ItIsFreeWhenAllHaveLetGo) {
  Fd left = Left();
  Start();
  auto segment = Import(left).value();
  left.Reset();
  EXPECT_EQ(LiveBytes(), 4 * kMiB);
  segment.reset();
  EXPECT_EQ(LiveBytes(), 0);
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
}

TEST_F(ImportTest, ItIsLostWithItsWorkerAsAnyOther) {
  const Fd left = Left();
  Start();
  const auto segment = Import(left).value();
  kill(WorkersOn().at(0), SIGKILL);
  EXPECT_TRUE(SoonTrue([&] { return segment->lost(); }));
  EXPECT_EQ(ReasonOf(segment->OpenForClient().status()), Reason::kDeviceUnavailable);
  // And can be taken again.
  EXPECT_TRUE(SoonTrue([&] { return Import(left).ok(); }));
}

TEST_F(ImportTest, ASegmentThatEndsWithAPageKeepsItsMarkBehindIt) {
  const Fd left = Left(4 * kMiB);
  Start();
  EXPECT_EQ(Import(left, 4 * kMiB).value()->bytes(), 6 * kMiB);
}

TEST_F(ImportTest, WhatNoGpuExportedIsRefused) {
  int ends[2] = {};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const Fd closing(ends[1]);
  std::vector<Fd> garbage;
  garbage.emplace_back(ends[0]);
  garbage.emplace_back(memfd_create("garbage", MFD_CLOEXEC));
  garbage.push_back(Source(4 * kMiB));
  garbage.emplace_back(open("/dev/zero", O_RDWR | O_CLOEXEC));
  garbage.emplace_back(open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (const Fd& one : garbage) {
    ASSERT_TRUE(one.valid());
    ExpectRefused(one, "not what a GPU exports");
  }
}

TEST_F(ImportTest, MemoryOfAnotherSizeIsRefused) {
  const Fd left = Left();
  ExpectRefused(left, "can't be mapped as 8388608 bytes", 7 * kMiB);
  ExpectRefused(left, "its mark is missing", kMiB);
}

TEST_F(ImportTest, MemoryOfSomethingElseIsRefused) {
  ExpectRefused(Left(), "its mark is missing", kBytes, std::string(kMarkBytes, 'x'));
  // What has none, as those that clients own.
  const auto unmarked = Upload(kBytes);
  const Fd exported = unmarked->OpenForClient().value();
  const auto imported = Import(exported);
  EXPECT_EQ(ReasonOf(imported.status()), Reason::kVerificationFailed) << imported.status();
}

TEST_F(ImportTest, MemoryOfAnotherGpuIsRefused) {
  const Fd left = Left(kBytes, kMark, 1);
  ExpectRefused(left, "memory of another GPU");
  EXPECT_TRUE(Import(left, kBytes, kMark, 1).ok());
}

TEST_F(ImportTest, MemoryThatEndedWithItsWorkerIsRefused) {
  const Fd left = Left();
  setenv("FAKE_CUDA_EXPORTER_MUST_LIVE", "1", 1);
  Start();
  const auto imported = Import(left);
  unsetenv("FAKE_CUDA_EXPORTER_MUST_LIVE");
  EXPECT_EQ(ReasonOf(imported.status()), Reason::kVerificationFailed) << imported.status();
}

TEST_F(ImportTest, ACallThatFailsLeavesNothing) {
  const Fd left = Left();
  for (const char* const function :
       {"cuMemImportFromShareableHandle", "cuMemGetAllocationPropertiesFromHandle",
        "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess", "cuMemcpyDtoH"}) {
    Fail(absl::StrCat(function, " 1 OUT_OF_MEMORY"));
    EXPECT_FALSE(Import(left).ok()) << function;
    EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0) << function;
    HealAll();
    EXPECT_TRUE(Import(left).ok()) << function;
  }
  Fail("cuMemImportFromShareableHandle 1 ECC_UNCORRECTABLE");
  EXPECT_EQ(ReasonOf(Import(left).status()), Reason::kDeviceUnavailable);
  EXPECT_TRUE(SoonTrue([&] { return Import(left).ok(); })) << "by the next worker";
}

TEST_F(ImportTest, WhatSaysNothingOfTheMemoryCanBeTriedAgain) {
  const Fd left = Left();
  Start();
  ImportPlan plan = PlanOf(left).value();
  for (const char* const fault :
       {"cuDevicePrimaryCtxRetain 1 UNKNOWN", "cuMemcpyDtoH 1 KILL", "cuMemMap 1 OUT_OF_MEMORY",
        "cuMemcpyDtoH 1 ECC_UNCORRECTABLE", "cuMemcpyDtoH 1 LAUNCH_FAILED"}) {
    Start();  // no worker
    plan.reservation = gpus_->ReserveHeld(Gpu(), kBytes).value();
    Fail(fault);
    const auto failed = gpus_->Import(plan, never_);
    ASSERT_FALSE(failed.ok()) << fault;
    EXPECT_NE(ReasonOf(failed.status()), Reason::kVerificationFailed) << fault << failed.status();
    EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 4 * kMiB) << fault << ": its room stays charged";
    HealAll();
    absl::StatusOr<std::shared_ptr<Segment>> segment = failed;
    EXPECT_TRUE(SoonTrue([&] { return (segment = gpus_->Import(plan, never_)).ok(); })) << fault;
    EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 4 * kMiB);
    EXPECT_EQ(Read(**segment).substr(0, kBytes), Pattern(kBytes)) << fault;
  }
}

TEST_F(ImportTest, OneThatIsCancelledGivesItsRoomBack) {
  const Fd left = Left();
  ImportPlan plan = PlanOf(left).value();
  const int worker = WorkersOn().at(0);
  kill(worker, SIGSTOP);
  Cancellation cancelled;
  cancelled.Cancel(absl::CancelledError("nobody waits"));
  EXPECT_EQ(gpus_->Import(plan, cancelled).status(), absl::CancelledError("nobody waits"));
  EXPECT_EQ(plan.reservation.bytes(), 0);
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 4 * kMiB) << "its worker may still take it";
  kill(worker, SIGCONT);
  EXPECT_TRUE(SoonTrue([&] { return gpus_->UsageOf(Gpu()).used() == 0; }));
}

TEST_F(ImportTest, ADriverThatHangsIsGivenUp) {
  GpusOptions options = Options();
  options.patience = absl::Milliseconds(300);
  Start(options);
  const Fd left = Left();
  kill(WorkersOn().at(0), SIGSTOP);
  const auto imported = Import(left);
  EXPECT_EQ(ReasonOf(imported.status()), Reason::kDeviceUnavailable) << imported.status();
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
}

TEST_F(ImportTest, RoomForWhatTheGpuHasGivenTakesNoWorker) {
  GpusOptions options = Options();
  options.budget_bytes = 8 * kMiB;
  Start(options);
  const Reservation held = gpus_->ReserveHeld(Gpu(), kBytes).value();
  EXPECT_EQ(held.bytes(), 4 * kMiB);
  EXPECT_EQ(Status().state, GpuStatus::State::kIdle);
  EXPECT_EQ(ReasonOf(gpus_->ReserveHeld(Gpu(), 4 * kMiB).status()), Reason::kBudgetExceeded)
      << "its mark needs another page";
  EXPECT_EQ(ReasonOf(gpus_->ReserveHeld(Gpu(), UINT64_MAX).status()), Reason::kVerificationFailed);
  EXPECT_EQ(ReasonOf(gpus_->ReserveHeld(GpuId(), 1).status()), Reason::kDeviceUnavailable);
  // Nothing of it is still to come out of what is free.
  const auto others = CudaMemory::Create(ClientContext(), 250 * kMiB);
  ASSERT_TRUE(others.ok()) << others.status();
  EXPECT_TRUE(gpus_->Reserve(Gpu(), 4 * kMiB).ok());
}

TEST_F(ImportTest, ADrainedGpuTakesNone) {
  const Fd left = Left();
  ASSERT_TRUE(gpus_->Drain(Gpu()).ok());
  EXPECT_EQ(ReasonOf(Import(left).status()), Reason::kDeviceUnavailable);
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
}

TEST_F(ImportTest, MarksAreWholeAndOfDescriptors) {
  for (const auto& [mark, handles] : std::vector<std::pair<std::string, Handles>>{
           {"half", Handles::kDescriptor}, {kMark, Handles::kLegacy}}) {
    UploadPlan plan = Plan(kBytes, {Whole(kBytes)});
    plan.mark = mark;
    plan.handles = handles;
    EXPECT_EQ(ReasonOf(gpus_->BeginUpload(std::move(plan)).status()), Reason::kInternal);
  }
  EXPECT_EQ(ReasonOf(Import(Left(), kBytes, "half").status()), Reason::kInternal);
}

}  // namespace
}  // namespace weightd::device
