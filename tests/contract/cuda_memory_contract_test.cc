#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/cuda_driver.h"
#include "common/fd.h"
#include "common/status.h"
#include "tests/contract/gpu_process.h"

// What we rely on of a CUDA driver, whichever it is: the fake one, and a real one where
// WEIGHTD_TEST_CUDA_DRIVER names its library and there is a GPU. All CUDA work is in processes of
// their own.

namespace weightd {
namespace {

using ::testing::HasSubstr;

constexpr const char* kFake = "tests/fakes/fake_cuda/libfake_cuda.so";
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kBytes = 16 * kMiB;

std::vector<std::string> Drivers() {
  std::vector<std::string> drivers = {kFake};
  if (const char* real = std::getenv("WEIGHTD_TEST_CUDA_DRIVER"); real != nullptr) {
    drivers.emplace_back(real);
  }
  return drivers;
}

class CudaMemoryContract : public ::testing::TestWithParam<std::string> {
 protected:
  CudaMemoryContract() {
    std::string dir = ::testing::TempDir() + "/fake_cuda_XXXXXX";
    setenv("FAKE_CUDA_DIR", mkdtemp(dir.data()), 1);
    setenv("FAKE_CUDA_DEVICES", "1x256MiB", 1);
  }

  // One with the first GPU's context.
  std::unique_ptr<GpuProcess> Start(const GpuProcess::Environment& environment = {}) const {
    auto process = std::make_unique<GpuProcess>(GetParam(), environment);
    EXPECT_EQ(process->Retain("0"), absl::OkStatus());
    return process;
  }

  std::string Play(const std::string& scenario) const {
    const auto outcome = Start()->Play(scenario);
    return outcome.ok() ? *outcome : std::string(outcome.status().message());
  }

  // Whether so much is free within 30 s: a driver may free what a killed process held a while
  // later.
  static bool AwaitFree(GpuProcess& observer, uint64_t bytes) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (absl::Now() < deadline) {
      if (const auto free = observer.FreeBytes(); free.ok() && *free >= bytes) {
        return true;
      }
      absl::SleepFor(absl::Milliseconds(5));
    }
    return false;
  }
};

TEST_P(CudaMemoryContract, OthersReadWhatOneExported) {
  const auto owner = Start();
  const int memory = *owner->Create(kBytes);
  ASSERT_EQ(owner->Fill(memory, 5), absl::OkStatus());
  const Fd exported = *owner->Export(memory);
  std::vector<std::unique_ptr<GpuProcess>> readers;
  for (int i = 0; i < 3; ++i) {
    readers.push_back(Start());
    const auto imported = readers.back()->Import(exported, kBytes, /*writable=*/false);
    ASSERT_EQ(imported.status(), absl::OkStatus());
    EXPECT_EQ(*readers.back()->Read(*imported), 5);
  }
}

TEST_P(CudaMemoryContract, WritersShareWhatTheyWrite) {
  const auto owner = Start();
  const int memory = *owner->Create(kBytes);
  const auto writer = Start();
  const int imported = *writer->Import(*owner->Export(memory), kBytes, /*writable=*/true);
  ASSERT_EQ(writer->Fill(imported, 6), absl::OkStatus());
  EXPECT_EQ(*owner->Read(memory), 6);
}

TEST_P(CudaMemoryContract, WriteToReadOnlyMemoryEndsTheWriterAlone) {
  const auto owner = Start();
  const int memory = *owner->Create(kBytes);
  ASSERT_EQ(owner->Fill(memory, 5), absl::OkStatus());
  const Fd exported = *owner->Export(memory);
  const auto reader = Start();
  const int read = *reader->Import(exported, kBytes, /*writable=*/false);
  const auto writer = Start();
  const int written = *writer->Import(exported, kBytes, /*writable=*/false);

  EXPECT_FALSE(writer->Fill(written, 6).ok());
  EXPECT_TRUE(CudaDriver::NeedsProcessExit(writer->Read(written).status()));
  EXPECT_EQ(*owner->Read(memory), 5);
  EXPECT_EQ(*reader->Read(read), 5);
  EXPECT_EQ(owner->Create(kBytes).status(), absl::OkStatus());
}

TEST_P(CudaMemoryContract, MemoryOutlivesItsKilledExporter) {
  auto owner = Start();
  const int memory = *owner->Create(kBytes);
  ASSERT_EQ(owner->Fill(memory, 5), absl::OkStatus());
  const auto reader = Start();
  const int imported = *reader->Import(*owner->Export(memory), kBytes, /*writable=*/false);
  owner->Kill();
  EXPECT_EQ(*reader->Read(imported), 5);
  const Fd again = *reader->Export(imported);
  const auto late = Start();
  EXPECT_EQ(*late->Read(*late->Import(again, kBytes, /*writable=*/false)), 5);
}

TEST_P(CudaMemoryContract, ADescriptorAloneKeepsMemory) {
  const auto observer = Start();
  auto owner = Start();
  const uint64_t before = *observer->FreeBytes();
  const int memory = *owner->Create(kBytes);
  ASSERT_EQ(owner->Fill(memory, 5), absl::OkStatus());
  Fd exported = *owner->Export(memory);
  owner->Kill();
  auto late = Start();
  const auto taken = late->ImportUnproven(exported, kBytes);
  ASSERT_EQ(taken.status(), absl::OkStatus());
  EXPECT_EQ(*late->Read(*taken), 5);
  EXPECT_FALSE(late->ImportUnproven(exported, 2 * kBytes).ok()) << "more than there is";
  late->Kill();
  exported.Reset();
  EXPECT_TRUE(AwaitFree(*observer, before));
}

TEST_P(CudaMemoryContract, WhatNoDriverExportedIsRefused) {
  const auto process = Start();
  const Fd garbage(memfd_create("garbage", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(garbage.get(), kBytes), 0);
  EXPECT_EQ(ReasonOf(process->ImportUnproven(garbage, kBytes).status()),
            Reason::kVerificationFailed);
  EXPECT_EQ(process->Create(kBytes).status(), absl::OkStatus());
}

TEST_P(CudaMemoryContract, FreedWhenTheLastUserIsGone) {
  const auto observer = Start();
  auto owner = Start();
  auto reader = Start();
  const uint64_t before = *observer->FreeBytes();
  const int memory = *owner->Create(kBytes);
  const int imported = *reader->Import(*owner->Export(memory), kBytes, /*writable=*/false);
  EXPECT_EQ(*observer->FreeBytes(), before - kBytes);
  ASSERT_EQ(owner->Free(memory), absl::OkStatus());
  EXPECT_EQ(*observer->FreeBytes(), before - kBytes);
  ASSERT_EQ(reader->Free(imported), absl::OkStatus());
  EXPECT_TRUE(AwaitFree(*observer, before));

  ASSERT_EQ(reader->Import(*owner->Export(*owner->Create(kBytes)), kBytes, false).status(),
            absl::OkStatus());
  owner->Kill();
  EXPECT_LT(*observer->FreeBytes(), before);
  reader->Kill();
  EXPECT_TRUE(AwaitFree(*observer, before));
}

TEST_P(CudaMemoryContract, MoreThanIsFreeIsDeviceMemoryShort) {
  const auto owner = Start();
  const uint64_t free = *owner->FreeBytes() / (2 * kMiB) * (2 * kMiB);
  const auto created = owner->Create(free + 2 * kMiB);
  EXPECT_EQ(ReasonOf(created.status()), Reason::kDeviceMemoryShort);
  EXPECT_FALSE(CudaDriver::NeedsProcessExit(created.status()));
  EXPECT_EQ(ReasonOf(owner->Allocate(uint64_t{1} << 50).status()), Reason::kDeviceMemoryShort);
  EXPECT_EQ(owner->Create(kBytes).status(), absl::OkStatus());
}

TEST_P(CudaMemoryContract, LegacyHandleIsOfAWholeAllocation) {
  const auto owner = Start();
  const int memory = *owner->Allocate(kBytes);
  ASSERT_EQ(owner->Fill(memory, 8), absl::OkStatus());
  const std::string handle = *owner->LegacyHandle(memory);
  const auto reader = Start();
  const int opened = *reader->OpenLegacy(handle, kBytes);
  EXPECT_EQ(*reader->Read(opened), 8);
  // An interior pointer's handle is that of the allocation's first byte.
  const auto other = Start();
  EXPECT_EQ(*other->Read(*other->OpenLegacy(*owner->LegacyHandle(memory, kMiB), kBytes)), 8);
  EXPECT_EQ(reader->Free(opened), absl::OkStatus());
  EXPECT_EQ(*reader->Read(*reader->OpenLegacy(handle, kBytes)), 8);
}

TEST_P(CudaMemoryContract, LegacyHandlesHaveLimits) {
  auto owner = Start();
  const std::string handle = *owner->LegacyHandle(*owner->Allocate(kBytes));
  EXPECT_THAT(std::string(owner->OpenLegacy(handle, kBytes).status().message()),
              HasSubstr("CUDA_ERROR_INVALID_CONTEXT"))
      << "in the exporter itself";
  EXPECT_FALSE(owner->LegacyHandle(*owner->Create(kBytes)).ok()) << "of memory of cuMemCreate";
  const auto reader = Start();
  EXPECT_FALSE(reader->OpenLegacy(std::string(64, 'x'), kBytes).ok());
  owner->Kill();
  EXPECT_FALSE(reader->OpenLegacy(handle, kBytes).ok()) << "after its owner's end";
}

TEST_P(CudaMemoryContract, FirstCuInitThenAContext) {
  GpuProcess process(GetParam());
  EXPECT_EQ(*process.Play("uninitialized"), "CUDA_ERROR_NOT_INITIALIZED");
  const std::string none = "CUDA_ERROR_INVALID_CONTEXT";
  EXPECT_EQ(*process.Play("no_context"),
            absl::StrCat(none, " ", none, " ", none, " ", none, " ", none, " ", none));
}

TEST_P(CudaMemoryContract, MappingHasRules) {
  const std::string refused = "CUDA_ERROR_INVALID_VALUE";
  EXPECT_EQ(Play("rules_of_mapping"),
            absl::StrCat(refused, " ", refused, " ", refused, " ", refused, " ", refused, " ",
                         refused, " ", refused));
}

TEST_P(CudaMemoryContract, OtherDescriptorsAreNotImported) {
  EXPECT_EQ(Play("import_garbage"), "refused refused");
}

TEST_P(CudaMemoryContract, HostMemoryIsRegisteredOnce) {
  EXPECT_EQ(Play("register_host"),
            "CUDA_SUCCESS CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED CUDA_SUCCESS "
            "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED");
}

TEST_P(CudaMemoryContract, ReadOnlyMapsAreNotRegistered) {
  EXPECT_EQ(Play("register_read_only"), "refused");
}

TEST_P(CudaMemoryContract, PinnedHostMemory) {
  EXPECT_EQ(Play("pinned_host"), "9 CUDA_SUCCESS CUDA_ERROR_INVALID_VALUE");
}

TEST_P(CudaMemoryContract, PageableSourcesMayChangeAfterTheCall) {
  EXPECT_EQ(Play("pageable"), "as it was");
}

TEST_P(CudaMemoryContract, CopiesWithinTheGpu) { EXPECT_EQ(Play("device_to_device"), "copied"); }

TEST_P(CudaMemoryContract, OnlyVisibleGpusAreRetained) {
  GpuProcess process(GetParam(), {{"CUDA_VISIBLE_DEVICES", ""}});
  EXPECT_EQ(ReasonOf(process.Retain("0")), Reason::kDeviceNotVisible);
  GpuProcess other(GetParam());
  const absl::Status status = other.Retain("GPU-00000000-0000-0000-0000-000000000000");
  EXPECT_EQ(ReasonOf(status), Reason::kDeviceNotVisible);
  EXPECT_THAT(std::string(status.message()), HasSubstr("it sees GPU-"));
}

INSTANTIATE_TEST_SUITE_P(Drivers, CudaMemoryContract, ::testing::ValuesIn(Drivers()),
                         [](const auto& driver) {
                           return driver.param == kFake ? std::string("Fake") : std::string("Real");
                         });

}  // namespace
}  // namespace weightd
