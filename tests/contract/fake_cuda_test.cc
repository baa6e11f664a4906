#include "tests/fakes/fake_cuda/fake_cuda.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/cuda_driver.h"
#include "common/status.h"
#include "tests/contract/gpu_process.h"

// What only the fake driver shows: that it counts, runs late and fails when it is told to; and that
// our owners of its resources leak none when it does.

namespace weightd {
namespace {

using fake_cuda::ClearFaults;
using fake_cuda::InjectFault;
using fake_cuda::LiveAllocations;
using fake_cuda::LiveBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kFake = "tests/fakes/fake_cuda/libfake_cuda.so";
constexpr uint64_t kBytes = 16 << 20;

class FakeCudaTest : public ::testing::Test {
 protected:
  FakeCudaTest() {
    std::string dir = ::testing::TempDir() + "/fake_cuda_XXXXXX";
    dir_ = mkdtemp(dir.data());
    setenv("FAKE_CUDA_DIR", dir_.c_str(), 1);
    setenv("FAKE_CUDA_DEVICES", "2x64MiB", 1);
  }

  static std::unique_ptr<GpuProcess> Start(const GpuProcess::Environment& environment = {}) {
    auto process = std::make_unique<GpuProcess>(kFake, environment);
    EXPECT_EQ(process->Retain("0"), absl::OkStatus());
    return process;
  }

  std::string dir_;
};

TEST_F(FakeCudaTest, EightProcessesShareOneAllocation) {
  const auto owner = Start();
  const Fd exported = *owner->Export(*owner->Create(kBytes));
  std::vector<std::unique_ptr<GpuProcess>> readers;
  for (int i = 0; i < 8; ++i) {
    readers.push_back(Start());
    ASSERT_EQ(readers.back()->Import(exported, kBytes, /*writable=*/false).status(),
              absl::OkStatus());
  }
  EXPECT_EQ(LiveAllocations(dir_, 0), 1U);
  EXPECT_EQ(LiveBytes(dir_, 0), kBytes);
  EXPECT_EQ(fake_cuda::ProcessesOn(dir_, 0).size(), 9U);
  EXPECT_EQ(LiveAllocations(dir_, 1), 0U);
}

TEST_F(FakeCudaTest, ADescriptorAloneKeepsMemory) {
  auto owner = Start();
  Fd exported = *owner->Export(*owner->Create(kBytes));
  owner->Kill();
  EXPECT_EQ(LiveBytes(dir_, 0), kBytes);
  exported.Reset();
  EXPECT_EQ(LiveBytes(dir_, 0), 0U);
  EXPECT_EQ(fake_cuda::CreatedAllocations(dir_, 0), 1U);
}

TEST_F(FakeCudaTest, TheOtherAssumption) {
  setenv("FAKE_CUDA_EXPORTER_MUST_LIVE", "1", 1);
  auto owner = Start();
  const Fd exported = *owner->Export(*owner->Create(kBytes));
  const auto reader = Start();
  const int imported = *reader->Import(exported, kBytes, /*writable=*/false);
  EXPECT_EQ(*reader->Read(imported), 0);
  owner->Kill();
  unsetenv("FAKE_CUDA_EXPORTER_MUST_LIVE");
  const absl::StatusOr<int> read = reader->Read(imported);
  EXPECT_TRUE(CudaDriver::NeedsProcessExit(read.status())) << read.status();
}

TEST_F(FakeCudaTest, ContextsAreCounted) {
  auto process = Start();
  EXPECT_THAT(fake_cuda::ProcessesOn(dir_, 0), ElementsAre(process->pid()));
  ASSERT_EQ(process->Allocate(kBytes).status(), absl::OkStatus());
  ASSERT_EQ(process->Release(), absl::OkStatus());
  EXPECT_THAT(fake_cuda::ProcessesOn(dir_, 0), IsEmpty());
  EXPECT_EQ(LiveBytes(dir_, 0), 0U);
  ASSERT_EQ(process->Retain("1"), absl::OkStatus());
  EXPECT_THAT(fake_cuda::ProcessesOn(dir_, 1), ElementsAre(process->pid()));
  process->Kill();
  EXPECT_THAT(fake_cuda::ProcessesOn(dir_, 1), IsEmpty());
}

TEST_F(FakeCudaTest, SeesWhatIsVisible) {
  const std::string second = fake_cuda::GpuIdOf(1).ToText();
  GpuProcess by_index(kFake, {{"CUDA_VISIBLE_DEVICES", "1"}});
  EXPECT_EQ(by_index.Retain("0"), absl::OkStatus());
  EXPECT_EQ(ReasonOf(by_index.Retain("1")), Reason::kDeviceNotVisible);
  EXPECT_EQ(by_index.Retain(second), absl::OkStatus());
  GpuProcess by_uuid(kFake, {{"CUDA_VISIBLE_DEVICES", second}});
  EXPECT_EQ(by_uuid.Retain(second), absl::OkStatus());
  EXPECT_EQ(ReasonOf(by_uuid.Retain(fake_cuda::GpuIdOf(0).ToText())), Reason::kDeviceNotVisible);
  GpuProcess swapped(kFake, {{"CUDA_VISIBLE_DEVICES", "1,0,7"}});
  EXPECT_EQ(swapped.Retain("1"), absl::OkStatus());
  EXPECT_THAT(fake_cuda::ProcessesOn(dir_, 0), ElementsAre(swapped.pid()));
}

TEST_F(FakeCudaTest, MemoryOfAnotherGpuIsNotImported) {
  const auto owner = Start();
  const Fd exported = *owner->Export(*owner->Create(kBytes));
  GpuProcess other(kFake, {{"CUDA_VISIBLE_DEVICES", "1"}});
  ASSERT_EQ(other.Retain("0"), absl::OkStatus());
  EXPECT_EQ(ReasonOf(other.Import(exported, kBytes, false).status()), Reason::kDeviceUnavailable);
  EXPECT_FALSE(owner->Import(exported, 2 * kBytes, false).ok()) << "more than there is";
}

TEST_F(FakeCudaTest, NeedsItsFolder) {
  GpuProcess process(kFake, {{"FAKE_CUDA_DIR", "/nowhere"}});
  EXPECT_THAT(std::string(process.Retain("0").message()), HasSubstr("cuInit: CUDA_ERROR_UNKNOWN"));
}

TEST_F(FakeCudaTest, RegistersNoMoreThanItsLimit) {
  const auto process = Start({{"FAKE_CUDA_REGISTER_LIMIT", "1MiB"}});
  EXPECT_EQ(*process->Play("register_too_much 2097152"), "CUDA_ERROR_INVALID_VALUE");
  EXPECT_EQ(*process->Play("register_too_much 1048576"), "CUDA_SUCCESS");
}

TEST_F(FakeCudaTest, StreamsRunLate) {
  const auto process = Start({{"FAKE_CUDA_COPY_DELAY_US", "300000"}});
  EXPECT_EQ(*process->Play("later"), "CUDA_ERROR_NOT_READY 1");
  EXPECT_EQ(*process->Play("reused"), "changed");
  EXPECT_EQ(*process->Play("pageable"), "as it was");
}

TEST_F(FakeCudaTest, CountsCallsToAFault) {
  const auto process = Start();
  InjectFault(dir_, "cuMemCreate 2 OUT_OF_MEMORY");
  EXPECT_EQ(process->Create(kBytes).status(), absl::OkStatus());
  EXPECT_EQ(ReasonOf(process->Create(kBytes).status()), Reason::kDeviceMemoryShort);
  EXPECT_EQ(process->Create(kBytes).status(), absl::OkStatus());
  InjectFault(dir_, "cuMemCreate * CUDA_ERROR_UNKNOWN");
  EXPECT_EQ(ReasonOf(process->Create(kBytes).status()), Reason::kInternal);
  EXPECT_EQ(ReasonOf(process->Create(kBytes).status()), Reason::kInternal);
  ClearFaults(dir_);
  EXPECT_EQ(process->Create(kBytes).status(), absl::OkStatus());
}

TEST_F(FakeCudaTest, KillsAtACall) {
  const auto observer = Start();
  const auto process = Start();
  ASSERT_EQ(process->Create(kBytes).status(), absl::OkStatus());
  InjectFault(dir_, "cuMemCreate 1 KILL");
  EXPECT_FALSE(process->Create(kBytes).ok());
  EXPECT_EQ(process->AwaitEnd(), SIGKILL);
  EXPECT_EQ(LiveBytes(dir_, 0), 0U);
  EXPECT_EQ(observer->Create(kBytes).status(), absl::OkStatus());
}

TEST_F(FakeCudaTest, ALostDeviceIsLostToTheProcess) {
  auto process = Start();
  const int memory = *process->Create(kBytes);
  InjectFault(dir_, "device 0 lost");
  const absl::Status lost = process->Fill(memory, 1);
  EXPECT_EQ(ReasonOf(lost), Reason::kDeviceUnavailable) << lost;
  EXPECT_TRUE(CudaDriver::NeedsProcessExit(lost));
  GpuProcess second(kFake);
  EXPECT_EQ(ReasonOf(second.Retain("0")), Reason::kDeviceUnavailable);
  EXPECT_EQ(second.Retain("1"), absl::OkStatus()) << "the other device works";
  ClearFaults(dir_);
  EXPECT_TRUE(CudaDriver::NeedsProcessExit(process->Fill(memory, 1))) << "until it ends";
  process->Kill();
  EXPECT_EQ(Start()->Create(kBytes).status(), absl::OkStatus());
}

TEST_F(FakeCudaTest, AGpuFaultStaysWithTheProcess) {
  const auto process = Start();
  const int memory = *process->Create(kBytes);
  InjectFault(dir_, "cuMemcpyHtoD 1 LAUNCH_FAILED");
  EXPECT_TRUE(CudaDriver::NeedsProcessExit(process->Fill(memory, 1)));
  const absl::Status later = process->Create(kBytes).status();
  EXPECT_THAT(std::string(later.message()), HasSubstr("CUDA_ERROR_LAUNCH_FAILED"));
}

TEST_F(FakeCudaTest, AllThatFailsIsReportedAndFreed) {
  const std::vector<std::string> create = {"cuMemCreate", "cuMemAddressReserve", "cuMemMap",
                                           "cuMemSetAccess"};
  const auto owner = Start();
  for (const std::string& function : create) {
    InjectFault(dir_, absl::StrCat(function, " 1 UNKNOWN"));
    EXPECT_THAT(std::string(owner->Create(kBytes).status().message()),
                HasSubstr(absl::StrCat(function, ": CUDA_ERROR_UNKNOWN")));
    EXPECT_EQ(LiveAllocations(dir_, 0), 0U) << function;
  }
  const int memory = *owner->Create(kBytes);
  InjectFault(dir_, "cuMemExportToShareableHandle 1 UNKNOWN");
  EXPECT_THAT(std::string(owner->Export(memory).status().message()),
              HasSubstr("cuMemExportToShareableHandle: CUDA_ERROR_UNKNOWN"));
  const Fd exported = *owner->Export(memory);
  const auto reader = Start();
  for (const std::string function :
       {"cuMemImportFromShareableHandle", "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"}) {
    InjectFault(dir_, absl::StrCat(function, " 1 UNKNOWN"));
    EXPECT_THAT(std::string(reader->Import(exported, kBytes, false).status().message()),
                HasSubstr(absl::StrCat(function, ": CUDA_ERROR_UNKNOWN")));
  }
  ASSERT_EQ(owner->Free(memory), absl::OkStatus());
}

TEST_F(FakeCudaTest, LegacyFailuresAreReportedAndFreed) {
  const auto owner = Start();
  InjectFault(dir_, "cuMemAlloc 1 OUT_OF_MEMORY");
  EXPECT_EQ(ReasonOf(owner->Allocate(kBytes).status()), Reason::kDeviceMemoryShort);
  EXPECT_EQ(LiveAllocations(dir_, 0), 0U);
  const int memory = *owner->Allocate(kBytes);
  const std::string handle = *owner->LegacyHandle(memory);
  const auto reader = Start();
  InjectFault(dir_, "cuIpcOpenMemHandle 1 UNKNOWN");
  EXPECT_THAT(std::string(reader->OpenLegacy(handle, kBytes).status().message()),
              HasSubstr("cuIpcOpenMemHandle: CUDA_ERROR_UNKNOWN"));
  ASSERT_EQ(owner->Free(memory), absl::OkStatus());
  EXPECT_EQ(LiveAllocations(dir_, 0), 0U);
  EXPECT_FALSE(reader->OpenLegacy(handle, kBytes).ok()) << "of memory that was freed";
}

TEST_F(FakeCudaTest, WhatFailsBeforeThereIsAContext) {
  for (const std::string function : {"cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetUuid",
                                     "cuDevicePrimaryCtxRetain"}) {
    InjectFault(dir_, absl::StrCat(function, " * DEVICE_UNAVAILABLE"));
    GpuProcess process(kFake);
    const absl::Status status = process.Retain("0");
    EXPECT_EQ(ReasonOf(status), Reason::kDeviceUnavailable) << function;
    EXPECT_THAT(std::string(status.message()), HasSubstr(function));
    ClearFaults(dir_);
    EXPECT_EQ(process.Retain("0"), absl::OkStatus()) << function;
  }
}

}  // namespace
}  // namespace weightd
