#include "tests/daemon/device/gpu_fixture.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <utility>

#include "common/mapping.h"
#include "common/status.h"
#include "tests/fakes/fake_cuda/fake_cuda.h"

namespace weightd::device {
namespace {

// The driver in this process reads it once.
const std::string& Folder() {
  static const std::string* const folder = [] {
    std::string pattern = ::testing::TempDir() + "/gpus.XXXXXX";
    return new std::string(mkdtemp(pattern.data()));
  }();
  return *folder;
}

}  // namespace

void GpuFixture::SetUp() {
  dir_ = Folder();
  setenv("FAKE_CUDA_DIR", dir_.c_str(), 1);
  setenv("FAKE_CUDA_DEVICES", "2x256MiB", 1);
  unsetenv("FAKE_CUDA_COPY_DELAY_US");
  HealAll();
}

void GpuFixture::TearDown() {
  gpus_.reset();
  HealAll();
  for (const int index : {0, 1}) {
    EXPECT_EQ(LiveBytes(index), 0);
    EXPECT_TRUE(WorkersOn(index).empty());
  }
}

GpusOptions GpuFixture::Options() const {
  GpusOptions options;
  options.driver = Driver();
  options.worker_command = {WorkerProgram()};
  options.budget_fraction = 1;
  options.reserve = 0;
  options.ring = 1 * kMiB;
  return options;
}

void GpuFixture::Start(const GpusOptions& options) {
  auto gpus = MakeGpus(options);
  ASSERT_TRUE(gpus.ok()) << gpus.status();
  gpus_ = *std::move(gpus);
}

GpuId GpuFixture::Gpu(int index) const { return fake_cuda::GpuIdOf(index); }

uint64_t GpuFixture::LiveBytes(int index) const { return fake_cuda::LiveBytes(dir_, index); }

std::vector<int> GpuFixture::WorkersOn(int index) const {
  std::vector<int> pids = fake_cuda::ProcessesOn(dir_, index);
  pids.erase(std::remove(pids.begin(), pids.end(), getpid()), pids.end());
  return pids;
}

void GpuFixture::Fail(absl::string_view fault) { fake_cuda::InjectFault(dir_, fault); }

void GpuFixture::HealAll() { fake_cuda::ClearFaults(dir_); }

char GpuFixture::PatternAt(uint64_t offset) {
  return static_cast<char>((offset * 0x9e3779b97f4a7c15U) >> 56);
}

Fd GpuFixture::Source(uint64_t bytes) {
  Fd source(memfd_create("source", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(source.get(), static_cast<off_t>(bytes)), 0);
  auto mapping = Mapping::Map(source.get(), bytes, Mapping::Access::kSharedWritable);
  EXPECT_TRUE(mapping.ok());
  for (uint64_t i = 0; i < bytes; ++i) {
    mapping->data()[i] = static_cast<std::byte>(PatternAt(i));
  }
  return source;
}

std::string GpuFixture::Pattern(uint64_t bytes) {
  std::string pattern(bytes, '\0');
  for (uint64_t i = 0; i < bytes; ++i) {
    pattern[i] = PatternAt(i);
  }
  return pattern;
}

Reservation GpuFixture::Reserve(uint64_t bytes, int index) {
  auto reservation = gpus_->Reserve(Gpu(index), bytes);
  EXPECT_TRUE(reservation.ok()) << reservation.status();
  return reservation.ok() ? *std::move(reservation) : Reservation();
}

UploadPlan GpuFixture::Plan(uint64_t bytes, std::vector<CopyRun> runs, int index) {
  uint64_t device_bytes = 0;
  for (const CopyRun& run : runs) {
    device_bytes = std::max(device_bytes, run.device_offset + run.host.size());
  }
  return {.reservation = Reserve(device_bytes, index),
          .device_bytes = device_bytes,
          .runs = std::move(runs),
          .source = Source(bytes),
          .source_bytes = bytes};
}

PrivateCopyPlan GpuFixture::PrivatePlan(uint64_t bytes, std::shared_ptr<Segment> copied) {
  PrivateCopyPlan plan{.reservation = Reserve(bytes),
                       .device_bytes = bytes,
                       .copied = std::move(copied),
                       .runs = {},
                       .source = {}};
  if (plan.copied == nullptr) {
    plan.runs = {Whole(bytes)};
    plan.source = Source(bytes);
    plan.source_bytes = bytes;
  }
  return plan;
}

absl::StatusOr<std::shared_ptr<Segment>> GpuFixture::TryUpload(uint64_t bytes, Handles handles,
                                                               int index) {
  ASSIGN_OR_RETURN(Reservation reservation, gpus_->Reserve(Gpu(index), bytes));
  ASSIGN_OR_RETURN(const auto upload, gpus_->BeginUpload({.reservation = std::move(reservation),
                                                          .device_bytes = bytes,
                                                          .handles = handles,
                                                          .runs = {Whole(bytes)},
                                                          .source = Source(bytes),
                                                          .source_bytes = bytes}));
  RETURN_IF_ERROR(upload->Await(upload->Copy({0, bytes}, 0), never_));
  return upload->Finish(never_);
}

std::shared_ptr<Segment> GpuFixture::Upload(uint64_t bytes, int index) {
  auto segment = TryUpload(bytes, Handles::kDescriptor, index);
  EXPECT_TRUE(segment.ok()) << segment.status();
  return segment.ok() ? *segment : nullptr;
}

std::shared_ptr<const CudaContext> GpuFixture::ClientContext(int index) const {
  auto driver = CudaDriver::Load(Driver());
  EXPECT_TRUE(driver.ok()) << driver.status();
  auto context = CudaContext::Retain(*std::move(driver), Gpu(index));
  EXPECT_TRUE(context.ok()) << context.status();
  return *std::move(context);
}

std::string GpuFixture::Read(Segment& segment) {
  const auto fd = segment.OpenForClient();
  EXPECT_TRUE(fd.ok()) << fd.status();
  return fd.ok() ? ReadMemory(fd->get(), segment.bytes(), segment.gpu() == Gpu(0) ? 0 : 1) : "";
}

std::string GpuFixture::ReadMemory(int fd, uint64_t bytes, int index) {
  const auto context = ClientContext(index);
  const auto memory = CudaMemory::Import(context, fd, bytes, CudaMemory::Access::kReadOnly);
  EXPECT_TRUE(memory.ok()) << memory.status();
  std::string read(bytes, '?');
  const CudaContext::Current current(*context);
  EXPECT_EQ(context->driver().cuMemcpyDtoH(read.data(), memory->pointer(), bytes), 0);
  return read;
}

bool GpuFixture::SoonTrue(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > deadline) {
      return false;
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

std::string GpuFixture::Driver() {
  return std::filesystem::absolute("tests/fakes/fake_cuda/libfake_cuda.so");
}

std::string GpuFixture::WorkerProgram() {
  return std::filesystem::absolute("tests/daemon/device/gpu_worker");
}

}  // namespace weightd::device
