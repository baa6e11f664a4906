#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "tests/daemon/device/gpu_fixture.h"

namespace weightd::device {
namespace {

using GpusTest = GpuFixture;
using State = GpuStatus::State;

TEST_F(GpusTest, ListsWhatTheDriverShows) {
  Start();
  EXPECT_TRUE(gpus_->why_none().ok());
  const std::vector<GpuStatus> list = gpus_->List();
  ASSERT_EQ(list.size(), 2);
  for (const int index : {0, 1}) {
    const GpuStatus& gpu = list[static_cast<size_t>(index)];
    EXPECT_EQ(gpu.index, index);
    EXPECT_EQ(gpu.id, Gpu(index));
    EXPECT_FALSE(gpu.name.empty());
    EXPECT_EQ(gpu.total_bytes, 256 * kMiB);
    EXPECT_EQ(gpu.usage.budget, 256 * kMiB);
    EXPECT_EQ(gpu.state, State::kIdle);
    EXPECT_EQ(gpu.worker_pid, 0);
  }
  EXPECT_TRUE(WorkersOn(0).empty()) << "listing starts nothing";
}

TEST_F(GpusTest, GpusAreFoundByIndexAndUuid) {
  Start();
  EXPECT_EQ(*gpus_->Find("1"), Gpu(1));
  EXPECT_EQ(*gpus_->Find(Gpu(0).ToText()), Gpu(0));
  const absl::Status unknown = gpus_->Find("2").status();
  EXPECT_EQ(ReasonOf(unknown), Reason::kDeviceUnavailable);
  EXPECT_TRUE(absl::StrContains(HintOf(unknown), Gpu(1).ToText())) << unknown;
  EXPECT_EQ(ReasonOf(gpus_->Reserve(GpuId(), 1).status()), Reason::kDeviceUnavailable);
}

TEST_F(GpusTest, WithoutADriverThereAreNone) {
  GpusOptions options = Options();
  options.driver = "libno-such-driver.so";
  Start(options);
  EXPECT_TRUE(gpus_->List().empty());
  EXPECT_EQ(ReasonOf(gpus_->why_none()), Reason::kDeviceUnavailable);
  const absl::Status none = gpus_->Find("0").status();
  EXPECT_TRUE(absl::StrContains(none.message(), "libno-such-driver.so")) << none;
}

TEST_F(GpusTest, ADriverThatFailsShowsNone) {
  for (const char* const function :
       {"cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetUuid", "cuDeviceGetName",
        "cuDeviceTotalMem", "cuDeviceGetAttribute", "cuMemGetAllocationGranularity"}) {
    Fail(absl::StrCat(function, " 1 UNKNOWN"));
    Start();
    EXPECT_TRUE(gpus_->List().empty()) << function;
    EXPECT_TRUE(absl::StrContains(gpus_->why_none().message(), "UNKNOWN")) << gpus_->why_none();
    HealAll();
  }
}

TEST_F(GpusTest, ADriverThatHidesAllShowsNone) {
  setenv("CUDA_VISIBLE_DEVICES", "", 1);
  Start();
  unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_TRUE(gpus_->List().empty());
  EXPECT_EQ(ReasonOf(gpus_->why_none()), Reason::kDeviceUnavailable);
}

TEST_F(GpusTest, AListingThatDiesShowsNone) {
  Fail("cuDeviceGetCount 1 KILL");
  Start();
  EXPECT_TRUE(absl::StrContains(gpus_->why_none().message(), "killed by signal 9"))
      << gpus_->why_none();
}

TEST_F(GpusTest, AListingThatHangsIsGivenUp) {
  GpusOptions options = Options();
  options.worker_command = {"/bin/sh", "-c", "exec sleep 1000"};
  options.patience = absl::Milliseconds(200);
  const absl::Time before = absl::Now();
  Start(options);
  EXPECT_LT(absl::Now() - before, absl::Seconds(10));
  EXPECT_TRUE(absl::StrContains(gpus_->why_none().message(), "doesn't answer"))
      << gpus_->why_none();
}

TEST_F(GpusTest, AProgramThatIsNoneShowsNone) {
  GpusOptions options = Options();
  options.worker_command = {"/no/such/program"};
  Start(options);
  EXPECT_EQ(ReasonOf(gpus_->why_none()), Reason::kDeviceUnavailable);
}

TEST_F(GpusTest, OptionsThatMakeNoSenseAreRefused) {
  GpusOptions options = Options();
  options.budget_fraction = 2;
  EXPECT_EQ(ReasonOf(MakeGpus(options).status()), Reason::kInvalidArgument);
  options = Options();
  options.budgets = {{"the first", kMiB}};
  EXPECT_EQ(ReasonOf(MakeGpus(options).status()), Reason::kInvalidArgument);
}

TEST_F(GpusTest, BudgetsAreWhatTheOptionsSay) {
  GpusOptions options = Options();
  options.budget_fraction = 0.5;
  options.budgets = {{Gpu(1).ToText(), 10 * kMiB}};
  Start(options);
  EXPECT_EQ(Status(0).usage.budget, 128 * kMiB);
  EXPECT_EQ(Status(1).usage.budget, 10 * kMiB);
  options.budget_bytes = 300 * kMiB;
  options.budgets.clear();
  options.reserve = 56 * kMiB;
  Start(options);
  EXPECT_EQ(Status(0).usage.budget, 200 * kMiB) << "the reserve stays free";
}

TEST_F(GpusTest, WhatExceedsTheBudgetIsRefused) {
  GpusOptions options = Options();
  options.budget_bytes = 10 * kMiB;
  Start(options);
  EXPECT_EQ(ReasonOf(gpus_->Reserve(Gpu(), 11 * kMiB).status()), Reason::kBudgetExceeded);
  EXPECT_EQ(Status().state, State::kIdle) << "no worker is needed to know";
  const Reservation held = Reserve(9 * kMiB);
  EXPECT_EQ(ReasonOf(gpus_->Reserve(Gpu(), 1).status()), Reason::kBudgetExceeded);
  EXPECT_EQ(gpus_->UsageOf(Gpu()).loading, 10 * kMiB);
}

TEST_F(GpusTest, MemoryThatOthersUseIsNotPromised) {
  GpusOptions options = Options();
  options.reserve = 16 * kMiB;
  Start(options);
  const auto context = ClientContext();
  const auto of_others = CudaMemory::Create(context, 200 * kMiB);
  ASSERT_TRUE(of_others.ok()) << of_others.status();
  const absl::Status refused = gpus_->Reserve(Gpu(), 42 * kMiB).status();
  EXPECT_EQ(ReasonOf(refused), Reason::kDeviceMemoryShort) << refused;
  const Reservation first = Reserve(20 * kMiB);
  EXPECT_EQ(ReasonOf(gpus_->Reserve(Gpu(), 22 * kMiB).status()), Reason::kDeviceMemoryShort)
      << "what was promised and isn't allocated yet counts";
  const auto segment = Upload(20 * kMiB);
  EXPECT_EQ(ReasonOf(gpus_->Reserve(Gpu(), 2 * kMiB).status()), Reason::kDeviceMemoryShort)
      << "what is allocated doesn't count twice, but it is not free";
}

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST_F(GpusTest, TheWorkerIsSeenInPsAndHasNothingOfOurs) {
  setenv("AWS_SECRET_ACCESS_KEY", "not for workers", 1);
  const Fd ours(dup(1));
  Start();
  const Reservation used = Reserve(kMiB);
  const int pid = Status().worker_pid;
  ASSERT_NE(pid, 0);
  EXPECT_EQ(WorkersOn(), std::vector<int>{pid});
  EXPECT_EQ(ReadFile(absl::StrCat("/proc/", pid, "/comm")), "weightd-gpu 0\n");
  EXPECT_TRUE(absl::StartsWith(ReadFile(absl::StrCat("/proc/", pid, "/cmdline")),
                               absl::string_view("weightd-gpu 0\0--gpu-worker\0serve\0", 33)));
  EXPECT_FALSE(
      absl::StrContains(ReadFile(absl::StrCat("/proc/", pid, "/environ")), "not for workers"));
}

TEST_F(GpusTest, DrainingLeavesNoProcessAndResumingStartsOne) {
  Start();
  Upload(2 * kMiB).reset();
  ASSERT_EQ(WorkersOn().size(), 1);
  ASSERT_TRUE(gpus_->Drain(Gpu()).ok());
  EXPECT_TRUE(WorkersOn().empty());
  EXPECT_EQ(Status().state, State::kDrained);
  EXPECT_EQ(Status().worker_pid, 0);
  const absl::Status drained = gpus_->Reserve(Gpu(), kMiB).status();
  EXPECT_EQ(ReasonOf(drained), Reason::kDeviceUnavailable);
  EXPECT_TRUE(absl::StrContains(HintOf(drained), "weightctl resume")) << drained;
  EXPECT_NE(Upload(2 * kMiB, 1), nullptr) << "the other GPU";
  EXPECT_TRUE(gpus_->Drain(Gpu()).ok()) << "again";
  ASSERT_TRUE(gpus_->Resume(Gpu()).ok());
  EXPECT_EQ(Status().state, State::kIdle);
  EXPECT_NE(Upload(2 * kMiB), nullptr);
}

TEST_F(GpusTest, WhatADrainedGpuStillHeldIsLost) {
  Start();
  bool told = false;
  gpus_->OnLost([&told](const GpuId&, const absl::Status&) { told = true; });
  auto segment = Upload(2 * kMiB);
  auto copy = gpus_->CopyPrivately(PrivatePlan(2 * kMiB, segment), never_);
  ASSERT_TRUE(copy.ok()) << copy.status();
  const auto upload = gpus_->BeginUpload(Plan(kMiB, {Whole(kMiB)}));
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_TRUE(gpus_->Drain(Gpu()).ok());
  EXPECT_EQ(LiveBytes(), 0) << "nor does a descriptor of ours hold any";
  EXPECT_TRUE(segment->lost());
  EXPECT_EQ(ReasonOf(segment->OpenForClient().status()), Reason::kDeviceUnavailable);
  EXPECT_EQ(ReasonOf((*copy)->OpenForClient().status()), Reason::kDeviceUnavailable);
  EXPECT_EQ(ReasonOf((*upload)->Finish(never_).status()), Reason::kDeviceUnavailable);
  segment.reset();
  gpus_->OnLost({});
  EXPECT_FALSE(told) << "whoever drains knows";
}

TEST_F(GpusTest, SegmentsMayOutliveTheGpus) {
  Start();
  auto segment = Upload(2 * kMiB);
  gpus_.reset();
  EXPECT_TRUE(segment->lost());
  segment.reset();
}

// The test's own process plays the daemon that dies: a child of it.
TEST_F(GpusTest, TheWorkerEndsWithTheDaemon) {
  const pid_t daemon = fork();
  if (daemon == 0) {
    const auto gpus = MakeGpus(Options());
    if (!gpus.ok() || !(*gpus)->Reserve(Gpu(), kMiB).ok()) {
      _exit(1);
    }
    pause();
  }
  ASSERT_TRUE(SoonTrue([this] { return WorkersOn().size() == 1; }));
  kill(daemon, SIGKILL);
  waitpid(daemon, nullptr, 0);
  EXPECT_TRUE(SoonTrue([this] { return WorkersOn().empty(); }));
}

}  // namespace
}  // namespace weightd::device
