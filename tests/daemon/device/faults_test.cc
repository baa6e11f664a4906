#include <signal.h>

#include <atomic>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/status.h"
#include "tests/daemon/device/gpu_fixture.h"

namespace weightd::device {
namespace {

using State = GpuStatus::State;

// After each test: no byte is left on a GPU (GpuFixture::TearDown).
class FaultsTest : public GpuFixture {
 protected:
  // Everything given back, and the GPU usable.
  void ExpectRecovered() {
    EXPECT_EQ(LiveBytes(), 0);
    EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
    HealAll();
    const auto segment = Upload(2 * kMiB);
    ASSERT_NE(segment, nullptr);
    EXPECT_TRUE(Read(*segment) == Pattern(2 * kMiB));
  }

  void Slow() { setenv("FAKE_CUDA_COPY_DELAY_US", "5000", 1); }
};

struct Fault {
  const char* function;
  const char* error;
  Reason reason;
};

class OneFault : public FaultsTest, public ::testing::WithParamInterface<Fault> {};

// An upload in which one call fails, once.
TEST_P(OneFault, FailsTheUploadAndLeaksNothing) {
  Start();
  Fail(absl::StrCat(GetParam().function, " 1 ", GetParam().error));
  const absl::Status failed = TryUpload(3 * kMiB).status();
  EXPECT_EQ(ReasonOf(failed), GetParam().reason) << failed;
  EXPECT_TRUE(absl::StrContains(failed.message(), GetParam().function)) << failed;
  EXPECT_TRUE(absl::StrContains(failed.message(), GetParam().error)) << failed;
  ExpectRecovered();
}

INSTANTIATE_TEST_SUITE_P(
    Calls, OneFault,
    ::testing::Values(Fault{"cuInit", "UNKNOWN", Reason::kInternal},
                      Fault{"cuDevicePrimaryCtxRetain", "OUT_OF_MEMORY",
                            Reason::kDeviceMemoryShort},
                      Fault{"cuStreamCreate", "UNKNOWN", Reason::kInternal},
                      Fault{"cuEventCreate", "UNKNOWN", Reason::kInternal},
                      Fault{"cuMemGetInfo", "UNKNOWN", Reason::kInternal},
                      Fault{"cuMemAllocHost", "OUT_OF_MEMORY", Reason::kDeviceMemoryShort},
                      Fault{"cuMemCreate", "OUT_OF_MEMORY", Reason::kDeviceMemoryShort},
                      Fault{"cuMemAddressReserve", "OUT_OF_MEMORY", Reason::kDeviceMemoryShort},
                      Fault{"cuMemMap", "UNKNOWN", Reason::kInternal},
                      Fault{"cuMemSetAccess", "UNKNOWN", Reason::kInternal},
                      Fault{"cuMemsetD8", "UNKNOWN", Reason::kInternal},
                      Fault{"cuMemcpyHtoDAsync", "UNKNOWN", Reason::kInternal},
                      Fault{"cuEventRecord", "UNKNOWN", Reason::kInternal},
                      Fault{"cuEventSynchronize", "UNKNOWN", Reason::kInternal},
                      Fault{"cuMemExportToShareableHandle", "NOT_SUPPORTED", Reason::kInternal}),
    [](const auto& info) { return info.param.function; });

class OneFaultOfALegacyUpload : public OneFault {};

TEST_P(OneFaultOfALegacyUpload, FailsItAndLeaksNothing) {
  Start();
  Fail(absl::StrCat(GetParam().function, " 1 ", GetParam().error));
  const absl::Status failed = TryUpload(3 * kMiB, Handles::kLegacy).status();
  EXPECT_EQ(ReasonOf(failed), GetParam().reason) << failed;
  ExpectRecovered();
}

INSTANTIATE_TEST_SUITE_P(
    Calls, OneFaultOfALegacyUpload,
    ::testing::Values(Fault{"cuMemAlloc", "OUT_OF_MEMORY", Reason::kDeviceMemoryShort},
                      Fault{"cuIpcGetMemHandle", "UNKNOWN", Reason::kInternal}),
    [](const auto& info) { return info.param.function; });

class OneFaultOfAPrivateCopy : public OneFault {};

TEST_P(OneFaultOfAPrivateCopy, FailsItAndLeaksNothing) {
  Start();
  auto segment = Upload(2 * kMiB);
  Fail(absl::StrCat(GetParam().function, " 1 ", GetParam().error));
  const absl::Status failed = gpus_->CopyPrivately(PrivatePlan(2 * kMiB, segment), never_).status();
  EXPECT_EQ(ReasonOf(failed), GetParam().reason) << failed;
  EXPECT_EQ(LiveBytes(), 2 * kMiB);
  segment.reset();
  ExpectRecovered();
}

INSTANTIATE_TEST_SUITE_P(
    Calls, OneFaultOfAPrivateCopy,
    ::testing::Values(Fault{"cuMemCreate", "OUT_OF_MEMORY", Reason::kDeviceMemoryShort},
                      Fault{"cuMemcpyDtoDAsync", "UNKNOWN", Reason::kInternal},
                      Fault{"cuEventRecord", "UNKNOWN", Reason::kInternal},
                      Fault{"cuEventSynchronize", "UNKNOWN", Reason::kInternal},
                      Fault{"cuMemExportToShareableHandle", "UNKNOWN", Reason::kInternal}),
    [](const auto& info) { return info.param.function; });

TEST_F(FaultsTest, AWindowThatCannotBePinnedGoesThroughTheRing) {
  Start();
  Fail("cuMemHostRegister 1 NOT_SUPPORTED");
  UploadPlan plan = Plan(kMiB, {Whole(kMiB)});
  plan.pin_source = true;
  const auto upload = gpus_->BeginUpload(std::move(plan));
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_TRUE((*upload)->Await((*upload)->Copy({0, kMiB}, 0), never_).ok());
  EXPECT_TRUE((*upload)->Finish(never_).ok());
  ExpectRecovered();
}

TEST_F(FaultsTest, APinnedCopyThatFails) {
  Start();
  Fail("cuMemcpyHtoDAsync 1 UNKNOWN");
  UploadPlan plan = Plan(kMiB, {Whole(kMiB)});
  plan.pin_source = true;
  {
    const auto upload = gpus_->BeginUpload(std::move(plan));
    ASSERT_TRUE(upload.ok()) << upload.status();
    EXPECT_FALSE((*upload)->Await((*upload)->Copy({0, kMiB}, 0), never_).ok());
    EXPECT_FALSE((*upload)->Await((*upload)->Copy({0, kMiB}, 0), never_).ok()) << "for good";
  }
  ExpectRecovered();
}

TEST_F(FaultsTest, MoreThanTheGpuHas) {
  Start();
  auto fits = Upload(200 * kMiB);
  ASSERT_NE(fits, nullptr);
  Reservation promised = Reserve(50 * kMiB);
  const auto context = ClientContext();
  auto of_others = CudaMemory::Create(context, 50 * kMiB);
  ASSERT_TRUE(of_others.ok()) << of_others.status();
  UploadPlan plan{.reservation = std::move(promised),
                  .device_bytes = 50 * kMiB,
                  .runs = {Whole(kMiB)},
                  .source = Source(kMiB),
                  .source_bytes = kMiB};
  EXPECT_EQ(ReasonOf(gpus_->BeginUpload(std::move(plan)).status()), Reason::kDeviceMemoryShort);
  EXPECT_FALSE(fits->lost());
}

// Errors that only the end of a process clears.
class Fatal : public FaultsTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(Fatal, EndsTheWorkerLosesItsSegmentsAndAnotherStarts) {
  Start();
  std::atomic<int> told = 0;
  gpus_->OnLost([this, &told](const GpuId& gpu, const absl::Status& why) {
    EXPECT_EQ(gpu, Gpu());
    EXPECT_EQ(ReasonOf(why), Reason::kDeviceUnavailable) << why;
    ++told;
  });
  auto segment = Upload(2 * kMiB);
  ASSERT_NE(segment, nullptr);
  const int first = Status().worker_pid;
  Fail(GetParam());
  EXPECT_FALSE(TryUpload(8 * kMiB).ok());
  EXPECT_TRUE(SoonTrue([&told] { return told == 1; }));
  EXPECT_TRUE(segment->lost());
  EXPECT_EQ(ReasonOf(segment->OpenForClient().status()), Reason::kDeviceUnavailable);
  EXPECT_EQ(Status().state, State::kFailed);
  EXPECT_FALSE(Status().last_error.empty());
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 2 * kMiB) << "until its owner drops it";
  segment.reset();
  ExpectRecovered();
  EXPECT_NE(Status().worker_pid, first);
  EXPECT_EQ(told, 1);
  gpus_->OnLost({});
}

INSTANTIATE_TEST_SUITE_P(Faults, Fatal,
                         ::testing::Values("device 0 lost", "cuMemcpyHtoDAsync 3 ILLEGAL_ADDRESS",
                                           "cuEventSynchronize 2 ECC_UNCORRECTABLE",
                                           "cuMemCreate 1 LAUNCH_FAILED", "cuMemGetInfo 1 KILL",
                                           "cuMemcpyHtoDAsync 3 KILL",
                                           "cuMemExportToShareableHandle 1 KILL"));

TEST_F(FaultsTest, AWorkerKilledInMidUpload) {
  Slow();
  Start();
  {
    const auto upload = gpus_->BeginUpload(Plan(32 * kMiB, {Whole(32 * kMiB)}));
    ASSERT_TRUE(upload.ok()) << upload.status();
    const uint64_t copy = (*upload)->Copy({0, 32 * kMiB}, 0);
    kill(Status().worker_pid, SIGKILL);
    EXPECT_EQ(ReasonOf((*upload)->Await(copy, never_)), Reason::kDeviceUnavailable);
    EXPECT_EQ(ReasonOf((*upload)->Finish(never_).status()), Reason::kDeviceUnavailable);
  }
  EXPECT_TRUE(SoonTrue([this] { return Status().state == State::kFailed; }));
  EXPECT_TRUE(absl::StrContains(Status().last_error, "killed by signal 9")) << Status().last_error;
  unsetenv("FAKE_CUDA_COPY_DELAY_US");
  ExpectRecovered();
}

TEST_F(FaultsTest, AWorkerKilledWhileIdle) {
  Start();
  absl::Notification told;
  gpus_->OnLost([&told](const GpuId&, const absl::Status&) { told.Notify(); });
  auto segment = Upload(2 * kMiB);
  kill(Status().worker_pid, SIGKILL);
  ASSERT_TRUE(told.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_TRUE(segment->lost());
  segment.reset();
  gpus_->OnLost({});
  ExpectRecovered();
}

TEST_F(FaultsTest, WorkersStartAtMostOnceASecondAfterFailures) {
  Start();
  Fail("cuDevicePrimaryCtxRetain * UNKNOWN");
  EXPECT_FALSE(gpus_->Reserve(Gpu(), kMiB).ok());
  EXPECT_TRUE(SoonTrue([this] { return Status().state == State::kFailed; }));
  const absl::Time before = absl::Now();
  EXPECT_FALSE(gpus_->Reserve(Gpu(), kMiB).ok());
  EXPECT_GT(absl::Now() - before, absl::Milliseconds(700));
  EXPECT_EQ(gpus_->UsageOf(Gpu()).used(), 0);
  ExpectRecovered();
}

TEST_F(FaultsTest, CancellationEndsWaitsAtOnce) {
  Slow();
  Start();
  const auto upload = gpus_->BeginUpload(Plan(64 * kMiB, {Whole(64 * kMiB)}));
  ASSERT_TRUE(upload.ok()) << upload.status();
  const uint64_t copy = (*upload)->Copy({0, 64 * kMiB}, 0);
  Cancellation cancellation;
  absl::Time cancelled;
  std::thread canceller([&cancellation, &cancelled] {
    cancellation.WaitFor(absl::Milliseconds(50));
    cancelled = absl::Now();
    cancellation.Cancel(Error(Reason::kCancelled, "enough"));
  });
  EXPECT_EQ(ReasonOf((*upload)->Await(copy, cancellation)), Reason::kCancelled);
  EXPECT_EQ(ReasonOf((*upload)->Finish(cancellation).status()), Reason::kCancelled);
  canceller.join();
  EXPECT_LT(absl::Now() - cancelled, absl::Milliseconds(100));
}

TEST_F(FaultsTest, APrivateCopyThatIsCancelledIsFreed) {
  Slow();
  Start();
  Cancellation cancellation;
  std::thread canceller([&cancellation] {
    cancellation.WaitFor(absl::Milliseconds(30));
    cancellation.Cancel(Error(Reason::kCancelled, "enough"));
  });
  EXPECT_EQ(ReasonOf(gpus_->CopyPrivately(PrivatePlan(64 * kMiB, nullptr), cancellation).status()),
            Reason::kCancelled);
  canceller.join();
  EXPECT_TRUE(SoonTrue([this] { return gpus_->UsageOf(Gpu()).used() == 0; }));
  EXPECT_EQ(LiveBytes(), 0);
}

// A worker that lists GPUs as the true one does, but serves by `script`.
GpusOptions WithServer(GpusOptions options, const std::string& script) {
  options.worker_command = {
      "/bin/sh", "-c",
      absl::StrCat("if [ \"$1\" = list ]; then exec ", options.worker_command.front(),
                   " --gpu-worker list \"$2\"; fi; ", script)};
  return options;
}

TEST_F(FaultsTest, AWorkerThatTalksNonsenseIsKilled) {
  Start(WithServer(Options(), "printf nonsense >&3; exec sleep 1000"));
  const absl::Status failed = gpus_->Reserve(Gpu(), kMiB).status();
  EXPECT_EQ(ReasonOf(failed), Reason::kDeviceUnavailable);
  EXPECT_TRUE(absl::StrContains(failed.message(), "nonsense")) << failed;
}

TEST_F(FaultsTest, AWorkerThatSaysNothingIsKilled) {
  GpusOptions options = WithServer(Options(), "exec sleep 1000");
  options.patience = absl::Seconds(1);
  Start(options);
  const absl::Status failed = gpus_->Reserve(Gpu(), kMiB).status();
  EXPECT_EQ(ReasonOf(failed), Reason::kDeviceUnavailable);
  EXPECT_TRUE(absl::StrContains(failed.message(), "said nothing")) << failed;
  EXPECT_EQ(Status().worker_pid, 0);
}

}  // namespace
}  // namespace weightd::device
