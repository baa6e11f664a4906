#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "common/cuda_driver.h"
#include "common/cuda_memory.h"
#include "common/fd.h"
#include "common/status.h"
#include "tests/fakes/fake_cuda/fake_cuda.h"
#include "tests/fakes/fake_daemon.h"
#include "weightd/v1/handles.pb.h"
#include "weightd/v1/weights.pb.h"

// Models in a GPU's memory, on the fake driver: from a daemon that is good, and from one that lies.

namespace weightd::client {
namespace {

using fakes::FakeDaemon;
using fakes::FakeModel;
using fakes::MakeMemfd;

constexpr uint64_t kGranule = 2 << 20;
constexpr char kLibrary[] = "tests/fakes/fake_cuda/libfake_cuda.so";

std::shared_ptr<const CudaContext> OpenFakeGpu(int ordinal) {
  auto driver = CudaDriver::Load(kLibrary);
  EXPECT_TRUE(driver.ok()) << driver.status();
  const auto gpu = CudaContext::GpuAt(**driver, ordinal);
  EXPECT_TRUE(gpu.ok()) << gpu.status();
  auto context = CudaContext::Retain(*driver, *gpu);
  EXPECT_TRUE(context.ok()) << context.status();
  return *std::move(context);
}

// "a" at the segment's byte 256, "b" at its first; each is found there and nowhere else.
FakeModel SmallDeviceModel() {
  FakeModel model = fakes::SmallModel();
  model.index.mutable_layout()->mutable_pieces(0)->set_device_offset(256);
  model.index.set_device_bytes(272);
  model.device_bytes = kGranule;
  (*model.index.mutable_metadata())["tied"] = "a";
  return model;
}

std::string SmallDeviceBytes() {
  constexpr float kA[] = {1, 2, 3, 4};
  constexpr float kB = 5;
  std::string bytes(272, '\0');
  std::memcpy(bytes.data(), &kB, sizeof(kB));
  std::memcpy(bytes.data() + 256, kA, sizeof(kA));
  return bytes;
}

void Fill(const CudaMemory& memory, const std::string& bytes) {
  const CudaContext::Current current(memory.context());
  EXPECT_EQ(memory.context().driver().cuMemcpyHtoD(memory.pointer(), bytes.data(), bytes.size()),
            cuda::CUDA_SUCCESS);
}

// A process that allocates GPU memory the old way: legacy handles don't open in the process that
// made them. Started before this one uses CUDA, which doesn't survive a fork.
class LegacyExporter {
 public:
  LegacyExporter() {
    EXPECT_EQ(pipe(handle_), 0);
    EXPECT_EQ(pipe(end_), 0);
    child_ = fork();
    if (child_ == 0) {
      alarm(120);
      close(end_[1]);
      Export();
    }
    close(handle_[1]);
    close(end_[0]);
  }
  ~LegacyExporter() {
    close(end_[1]);
    waitpid(child_, nullptr, 0);
  }

  // Once.
  std::string Handle() const {
    std::string handle(sizeof(cuda::CUipcMemHandle), '\0');
    EXPECT_EQ(read(handle_[0], handle.data(), handle.size()), static_cast<ssize_t>(handle.size()));
    return handle;
  }

 private:
  [[noreturn]] void Export() const {
    const auto memory = CudaMemory::Allocate(OpenFakeGpu(0), kGranule);
    Fill(*memory, SmallDeviceBytes());
    const auto handle = memory->LegacyHandle();
    bool done = write(handle_[1], &*handle, sizeof(*handle)) == sizeof(*handle);
    char byte = 0;
    done = read(end_[0], &byte, 1) == 0 && done;
    _exit(done ? 0 : 1);
  }

  int handle_[2] = {};
  int end_[2] = {};
  pid_t child_ = -1;
};

// Before any thread, and before any driver.
class FakeGpus : public testing::Environment {
 public:
  void SetUp() override {
    folder = testing::TempDir() + "/fake_cuda";
    std::filesystem::create_directories(folder);
    setenv("FAKE_CUDA_DIR", folder.c_str(), 1);
    setenv("FAKE_CUDA_DEVICES", "2x64MiB", 1);
    exporter.emplace();
  }
  void TearDown() override { exporter.reset(); }

  static inline std::string folder;
  static inline std::optional<LegacyExporter> exporter;
};
[[maybe_unused]] testing::Environment* const kFakeGpus =
    testing::AddGlobalTestEnvironment(new FakeGpus());

class DeviceTest : public testing::Test {
 protected:
  DeviceTest() : gpu_(OpenFakeGpu(0)) {
    daemon_.Add("small", Exported(SmallDeviceModel()));
    client_ = *Client::Connect({daemon_.socket_dir()});
    options_.driver = kLibrary;
    free_before_ = FreeBytes();
  }

  FakeModel Exported(FakeModel model) const {
    model.export_from_device = [gpu = gpu_] {
      const auto memory = CudaMemory::Create(gpu, kGranule);
      EXPECT_TRUE(memory.ok()) << memory.status();
      Fill(*memory, SmallDeviceBytes());
      return *memory->Export();
    };
    return model;
  }

  absl::StatusOr<DeviceModel> Attach(absl::string_view name = "small") const {
    return client_->AttachToDevice(name, options_);
  }

  float ReadFirst(const DeviceTensor& tensor) const {
    const CudaContext::Current current(*gpu_);
    float value = 0;
    EXPECT_EQ(gpu_->driver().cuMemcpyDtoH(&value, tensor.pointer(), sizeof(value)),
              cuda::CUDA_SUCCESS);
    return value;
  }

  size_t FreeBytes() const {
    const CudaContext::Current current(*gpu_);
    size_t free = 0;
    size_t total = 0;
    EXPECT_EQ(gpu_->driver().cuMemGetInfo(&free, &total), cuda::CUDA_SUCCESS);
    return free;
  }

  // The daemon's own descriptor of what it handed out may live a moment longer.
  void ExpectAllFree() const {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (FreeBytes() != free_before_ && absl::Now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(FreeBytes(), free_before_);
  }

  // Attaches to a daemon that lies so, which must fail, and leave nothing behind.
  absl::Status AttachWith(FakeDaemon::Faults faults) {
    daemon_.Set(std::move(faults));
    absl::Status status = Attach().status();
    daemon_.Set({});
    // What was to be released later is released with the next attach.
    EXPECT_TRUE(Attach().ok());
    EXPECT_EQ(daemon_.leases(), 0u);
    ExpectAllFree();
    return status;
  }

  const std::shared_ptr<const CudaContext> gpu_;
  FakeDaemon daemon_;
  std::optional<Client> client_;
  DeviceOptions options_;
  size_t free_before_ = 0;
};

TEST_F(DeviceTest, SharedModelGivesItsTensors) {
  {
    const auto model = Attach();
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->name(), "small");
    EXPECT_EQ(model->revision(), std::string(64, 'a'));
    EXPECT_EQ(model->gpu(), gpu_->gpu());
    EXPECT_EQ(model->mode(), DeviceMode::kShared);
    EXPECT_EQ(model->nbytes(), kGranule);
    EXPECT_EQ(ReadFirst(*model->tensor("a")), 1);
    EXPECT_EQ(ReadFirst(*model->tensor("b")), 5);
    EXPECT_EQ(model->tensor("a")->pointer(), model->pointer() + 256);
    EXPECT_EQ(model->tensor("tied")->pointer(), model->tensor("a")->pointer());
    EXPECT_EQ(model->tensors()->size(), 3u);
    EXPECT_EQ(model->metadata()->at("format"), "pt");
    EXPECT_EQ(ReasonOf(model->tensor("none").status()), Reason::kTensorNotFound);
    EXPECT_EQ(daemon_.leases(), 1u);
    EXPECT_LT(FreeBytes(), free_before_);
  }
  EXPECT_EQ(daemon_.leases(), 0u);
  ExpectAllFree();
}

TEST_F(DeviceTest, ModelsGiveWhatLiesBesideTheirWeights) {
  FakeModel folder = Exported(SmallDeviceModel());
  folder.small_files = "{}";
  fakes::AddSmallFile(folder, "config.json", 0, 2);
  daemon_.Add("folder", folder);
  for (const DeviceMode mode : {DeviceMode::kShared, DeviceMode::kPrivate}) {
    options_.mode = mode;
    const auto model = Attach("folder");
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->file("config.json").value_or("none"), "{}");
    EXPECT_EQ(model->files()->size(), 1u);
    EXPECT_EQ(ReasonOf(model->file("vocab.txt").status()), Reason::kFileNotFound);
  }
  options_.mode = DeviceMode::kShared;
  fakes::AddSmallFile(folder, "vocab.txt", 2, 1);
  daemon_.Add("folder", folder);
  EXPECT_EQ(ReasonOf(Attach("folder")->files().status()), Reason::kMalformedModel);
  FakeDaemon::Faults unsealed;
  unsealed.tamper = [](v1::HandleReply&, std::vector<Fd>& fds) {
    fds[2] = MakeMemfd("{}", /*sealed=*/false);
  };
  daemon_.Set(unsealed);
  EXPECT_EQ(ReasonOf(Attach("folder").status()), Reason::kMalformedModel);
}

TEST_F(DeviceTest, WhatIsMappedGetsALeaseOfTheNextDaemon) {
  FakeModel kept = SmallDeviceModel();
  const auto memory = CudaMemory::Create(gpu_, kGranule);
  ASSERT_TRUE(memory.ok()) << memory.status();
  kept.export_from_device = [&memory] { return memory->Export().value(); };
  daemon_.Add("kept", kept);
  auto held = Attach("kept");
  ASSERT_TRUE(held.ok()) << held.status();
  const auto other = Attach();
  ASSERT_TRUE(other.ok()) << other.status();
  const auto pointer = held->pointer();
  daemon_.EndSessions();
  EXPECT_EQ(daemon_.leases(), 0u);
  ASSERT_TRUE(Attach().ok());
  EXPECT_TRUE(daemon_.AwaitLeases(1)) << "of the other the next daemon has other memory";
  EXPECT_EQ(held->pointer(), pointer);
  held = absl::CancelledError();
  EXPECT_TRUE(daemon_.AwaitLeases(0));
}

TEST_F(DeviceTest, NobodyWaitsForLeasesThatAreTakenAgain) {
  const auto held = Attach();
  ASSERT_TRUE(held.ok()) << held.status();
  daemon_.EndSessions();
  FakeDaemon::Faults faults;
  faults.stalls_renewals = true;
  daemon_.Set(faults);
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(Attach().ok());
  ASSERT_TRUE(Attach().ok());
  client_.reset();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  EXPECT_EQ(ReadFirst(*held->tensor("a")), 1);
}

TEST_F(DeviceTest, PrivateCopyIsWritableAndHasNoLease) {
  options_.mode = DeviceMode::kPrivate;
  {
    const auto model = Attach();
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(daemon_.leases(), 0u);
    const auto a = model->tensor("a");
    ASSERT_TRUE(a.ok()) << a.status();
    constexpr float kValue = 7;
    {
      const CudaContext::Current current(*gpu_);
      EXPECT_EQ(gpu_->driver().cuMemcpyHtoD(a->pointer(), &kValue, sizeof(kValue)),
                cuda::CUDA_SUCCESS);
    }
    EXPECT_EQ(ReadFirst(*a), 7);
  }
  ExpectAllFree();
}

TEST_F(DeviceTest, LegacyHandles) {
  FakeModel model = SmallDeviceModel();
  model.legacy_handle = FakeGpus::exporter->Handle();
  daemon_.Add("legacy", model);
  options_.legacy = true;
  {
    const auto attached = Attach("legacy");
    ASSERT_TRUE(attached.ok()) << attached.status();
    EXPECT_EQ(ReadFirst(*attached->tensor("a")), 1);
  }
  daemon_.Set(
      {.tamper_grant = [](v1::Grant& grant) { grant.mutable_device()->set_legacy_offset(256); }});
  model.index.mutable_layout()->mutable_pieces(0)->set_device_offset(0);
  daemon_.Add("legacy", model);
  const auto attached = Attach("legacy");
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_EQ(ReadFirst(*attached->tensor("a")), 1);
  EXPECT_EQ(attached->nbytes(), kGranule - 256);
}

TEST_F(DeviceTest, GpuByItsUuid) {
  options_.ordinal = 99;
  options_.gpu = gpu_->gpu();
  EXPECT_TRUE(Attach().ok());
  options_.gpu = *GpuId::FromText("GPU-00000000-0000-0000-0000-000000000001");
  const absl::Status unseen = Attach().status();
  EXPECT_EQ(ReasonOf(unseen), Reason::kDeviceNotVisible) << unseen;
  EXPECT_NE(unseen.message().find(gpu_->gpu().ToText()), absl::string_view::npos) << unseen;
}

TEST_F(DeviceTest, GpuThatThisProcessDoesNotSee) {
  options_.ordinal = 2;
  EXPECT_EQ(ReasonOf(Attach().status()), Reason::kDeviceNotVisible);
  options_.driver = "/nowhere/libcuda.so.1";
  const absl::Status status = Attach().status();
  EXPECT_EQ(ReasonOf(status), Reason::kDeviceNotVisible) << status;
  EXPECT_FALSE(HintOf(status).empty());
}

TEST_F(DeviceTest, BytesOutliveTheDaemon) {
  std::optional<FakeDaemon> daemon(std::in_place);
  daemon->Add("small", Exported(SmallDeviceModel()));
  const auto model = Client::Connect({daemon->socket_dir()})->AttachToDevice("small", options_);
  ASSERT_TRUE(model.ok()) << model.status();
  daemon.reset();
  EXPECT_EQ(ReadFirst(*model->tensor("a")), 1);
}

TEST_F(DeviceTest, CallersContextStays) {
  const auto other = OpenFakeGpu(1);
  const CudaContext::Current current(*other);
  cuda::CUcontext before = nullptr;
  cuda::CUcontext after = nullptr;
  gpu_->driver().cuCtxGetCurrent(&before);
  ASSERT_TRUE(Attach().ok());
  gpu_->driver().cuCtxGetCurrent(&after);
  EXPECT_EQ(before, after);
}

TEST_F(DeviceTest, ChildLeavesTheGpuAlone) {
  auto model = Attach();
  ASSERT_TRUE(model.ok()) << model.status();
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    model = absl::CancelledError();
    const Reason reason = ReasonOf(Attach().status());
    client_.reset();
    _exit(reason == Reason::kSessionInvalid ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(daemon_.leases(), 1u);
  EXPECT_EQ(ReadFirst(*model->tensor("a")), 1);
}

TEST_F(DeviceTest, RefusesGrantsThatLie) {
  const std::vector<std::function<void(v1::Grant&)>> lies = {
      [](v1::Grant& grant) { grant.clear_device(); },
      [](v1::Grant& grant) { grant.mutable_device()->set_gpu_uuid(std::string(16, 'x')); },
      [](v1::Grant& grant) { grant.mutable_device()->set_gpu_uuid("short"); },
      [](v1::Grant& grant) { grant.mutable_device()->set_mode(v1::DeviceRequest::PRIVATE); },
      [](v1::Grant& grant) { grant.mutable_device()->set_nbytes(0); },
      [](v1::Grant& grant) { grant.mutable_device()->set_nbytes(uint64_t{1} << 60); },
      [](v1::Grant& grant) { grant.mutable_device()->set_legacy_offset(256); },
      [](v1::Grant& grant) { grant.mutable_device()->set_legacy_handle(std::string(64, 'x')); },
  };
  for (size_t i = 0; i < lies.size(); ++i) {
    const absl::Status status = AttachWith({.tamper_grant = lies[i]});
    EXPECT_EQ(ReasonOf(status), Reason::kInternal) << "lie " << i << ": " << status;
  }
}

TEST_F(DeviceTest, RefusesHandlesThatLie) {
  const std::vector<std::function<void(v1::HandleReply&, std::vector<Fd>&)>> lies = {
      [](v1::HandleReply&, std::vector<Fd>& fds) { fds.pop_back(); },
      [](v1::HandleReply& reply, std::vector<Fd>& fds) {
        reply.mutable_handles()->mutable_handles()->RemoveLast();
        fds.pop_back();
      },
      [](v1::HandleReply& reply, std::vector<Fd>&) {
        reply.mutable_handles()->mutable_handles(0)->set_kind(v1::Handle::HOST_SEGMENT);
      },
      [](v1::HandleReply& reply, std::vector<Fd>&) {
        reply.mutable_handles()->mutable_handles(0)->set_nbytes(kGranule + 1);
      },
      [](v1::HandleReply&, std::vector<Fd>& fds) {
        fds[0] = MakeMemfd(std::string(kGranule, 'x'));
      },
  };
  for (size_t i = 0; i < lies.size(); ++i) {
    const absl::Status status = AttachWith({.tamper = lies[i]});
    EXPECT_EQ(ReasonOf(status), Reason::kInternal) << "lie " << i << ": " << status;
  }
}

TEST_F(DeviceTest, RefusesAllocationsSmallerThanGranted) {
  FakeModel lie = Exported(SmallDeviceModel());
  lie.device_bytes = 4 * kGranule;
  daemon_.Add("lie", lie);
  EXPECT_FALSE(Attach("lie").ok());
  EXPECT_EQ(daemon_.leases(), 0u);
  ExpectAllFree();
}

TEST_F(DeviceTest, RefusesTensorsBeyondTheMemory) {
  FakeModel lie = Exported(SmallDeviceModel());
  lie.index.set_device_bytes(kGranule + 1);
  daemon_.Add("larger", lie);
  lie.index.set_device_bytes(271);
  daemon_.Add("beyond", lie);
  for (const char* const name : {"larger", "beyond"}) {
    const auto model = Attach(name);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(ReasonOf(model->tensor("a").status()), Reason::kMalformedModel) << name;
    EXPECT_EQ(ReasonOf(model->tensors().status()), Reason::kMalformedModel) << name;
  }
}

TEST_F(DeviceTest, TellsTheDriversErrorsAndLeavesNothing) {
  // The daemon's own mapping of what it exports is the first of the second ones.
  for (const char* const line :
       {"cuDevicePrimaryCtxRetain 1 OUT_OF_MEMORY",
        "cuMemImportFromShareableHandle 1 OUT_OF_MEMORY", "cuMemAddressReserve 2 OUT_OF_MEMORY",
        "cuMemMap 2 OUT_OF_MEMORY", "cuMemSetAccess 2 OUT_OF_MEMORY"}) {
    fake_cuda::InjectFault(FakeGpus::folder, line);
    const absl::Status status = AttachWith({});
    EXPECT_EQ(ReasonOf(status), Reason::kDeviceMemoryShort) << line << ": " << status;
    fake_cuda::ClearFaults(FakeGpus::folder);
  }
}

TEST_F(DeviceTest, TellsTheDaemonsError) {
  v1::ErrorDetail error;
  error.set_reason(v1::PLACEMENT_DIFFERS);
  error.set_message("placed on host");
  const absl::Status status = AttachWith({.error = error});
  EXPECT_EQ(ReasonOf(status), Reason::kPlacementDiffers) << status;
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace weightd::client
