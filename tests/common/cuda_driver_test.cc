#include "common/cuda_driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "common/status.h"

namespace weightd {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kFake = "tests/fakes/fake_cuda/libfake_cuda.so";

absl::Status LoadError(const std::string& library) { return CudaDriver::Load(library).status(); }

TEST(CudaDriverTest, ANodeWithoutDriver) {
  const absl::Status status = LoadError("libno_such_driver.so.1");
  EXPECT_EQ(ReasonOf(status), Reason::kDeviceUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("libno_such_driver.so.1"));
  EXPECT_THAT(HintOf(status), HasSubstr("libcuda.so.1"));
}

TEST(CudaDriverTest, ALibraryThatIsNoDriver) {
  const absl::Status status = LoadError("libc.so.6");
  EXPECT_EQ(ReasonOf(status), Reason::kDeviceUnavailable);
  EXPECT_THAT(HintOf(status), AllOf(HasSubstr("libc.so.6"), HasSubstr("cuDriverGetVersion")));
}

TEST(CudaDriverTest, ADriverThatLacksAFunction) {
  const absl::Status status = LoadError("tests/common/libpartial_driver.so");
  EXPECT_EQ(ReasonOf(status), Reason::kDeviceUnavailable);
  EXPECT_THAT(HintOf(status), AllOf(HasSubstr("libpartial_driver.so"), HasSubstr("cuInit")));
}

TEST(CudaDriverTest, ADriverThatIsTooOld) {
  setenv("FAKE_CUDA_VERSION", "11030", 1);
  const absl::Status status = LoadError(kFake);
  unsetenv("FAKE_CUDA_VERSION");
  EXPECT_EQ(ReasonOf(status), Reason::kDeviceUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("CUDA 11.3, too old"));
  EXPECT_THAT(HintOf(status), AllOf(HasSubstr(kFake), HasSubstr("CUDA 11.4")));
}

TEST(CudaDriverTest, LoadingTouchesNoGpu) {
  const auto driver = CudaDriver::Load(kFake);
  ASSERT_EQ(driver.status(), absl::OkStatus());
  EXPECT_EQ((*driver)->version(), 12040);
  EXPECT_EQ((*driver)->library(), kFake);
  int count = 0;
  EXPECT_EQ((*driver)->cuDeviceGetCount(&count), cuda::CUDA_ERROR_NOT_INITIALIZED);
}

struct Expected {
  cuda::CUresult result;
  const char* text;
  Reason reason;
  bool needs_exit;
};

TEST(CudaDriverTest, EachResultBecomesAStatus) {
  const auto driver = *CudaDriver::Load(kFake);
  const std::vector<Expected> all = {
      {cuda::CUDA_ERROR_INVALID_VALUE, "INVALID_VALUE 1 (", Reason::kInternal, false},
      {cuda::CUDA_ERROR_OUT_OF_MEMORY, "OUT_OF_MEMORY 2 (", Reason::kDeviceMemoryShort, false},
      {cuda::CUDA_ERROR_NOT_INITIALIZED, "NOT_INITIALIZED", Reason::kDeviceUnavailable, false},
      {cuda::CUDA_ERROR_DEINITIALIZED, "DEINITIALIZED", Reason::kDeviceUnavailable, false},
      {cuda::CUDA_ERROR_STUB_LIBRARY, "STUB_LIBRARY", Reason::kDeviceUnavailable, false},
      {cuda::CUDA_ERROR_DEVICE_UNAVAILABLE, "DEVICE_UNAVAIL", Reason::kDeviceUnavailable, false},
      {cuda::CUDA_ERROR_NO_DEVICE, "NO_DEVICE", Reason::kDeviceUnavailable, false},
      {cuda::CUDA_ERROR_INVALID_DEVICE, "INVALID_DEVICE", Reason::kDeviceUnavailable, false},
      {cuda::CUDA_ERROR_INVALID_CONTEXT, "INVALID_CONTEXT", Reason::kInternal, false},
      {cuda::CUDA_ERROR_ECC_UNCORRECTABLE, "ECC_UNCORR", Reason::kDeviceUnavailable, true},
      {cuda::CUDA_ERROR_NVLINK_UNCORRECTABLE, "NVLINK", Reason::kDeviceUnavailable, true},
      {cuda::CUDA_ERROR_INVALID_HANDLE, "INVALID_HANDLE", Reason::kInternal, false},
      {cuda::CUDA_ERROR_NOT_READY, "NOT_READY", Reason::kInternal, false},
      {cuda::CUDA_ERROR_ILLEGAL_ADDRESS, "ILLEGAL_ADDRESS", Reason::kInternal, true},
      {cuda::CUDA_ERROR_LAUNCH_TIMEOUT, "LAUNCH_TIMEOUT", Reason::kInternal, true},
      {cuda::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "ALREADY_REGISTERED", Reason::kInternal,
       false},
      {cuda::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "NOT_REGISTERED", Reason::kInternal, false},
      {cuda::CUDA_ERROR_HARDWARE_STACK_ERROR, "STACK_ERROR", Reason::kInternal, true},
      {cuda::CUDA_ERROR_ILLEGAL_INSTRUCTION, "ILLEGAL_INSTR", Reason::kInternal, true},
      {cuda::CUDA_ERROR_MISALIGNED_ADDRESS, "MISALIGNED", Reason::kInternal, true},
      {cuda::CUDA_ERROR_INVALID_ADDRESS_SPACE, "ADDRESS_SPACE", Reason::kInternal, true},
      {cuda::CUDA_ERROR_INVALID_PC, "INVALID_PC", Reason::kInternal, true},
      {cuda::CUDA_ERROR_LAUNCH_FAILED, "LAUNCH_FAILED", Reason::kInternal, true},
      {cuda::CUDA_ERROR_NOT_PERMITTED, "NOT_PERMITTED", Reason::kInternal, false},
      {cuda::CUDA_ERROR_NOT_SUPPORTED, "NOT_SUPPORTED", Reason::kInternal, false},
      {cuda::CUDA_ERROR_SYSTEM_NOT_READY, "NOT_READY", Reason::kDeviceUnavailable, false},
      {cuda::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "MISMATCH", Reason::kDeviceUnavailable, false},
      {cuda::CUDA_ERROR_MPS_CLIENT_TERMINATED, "MPS_", Reason::kDeviceUnavailable, true},
      {cuda::CUDA_ERROR_EXTERNAL_DEVICE, "EXTERNAL", Reason::kDeviceUnavailable, true},
      {cuda::CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN 999 (", Reason::kInternal, false},
      {54321, "cuThing: CUresult 54321 (", Reason::kInternal, false},
  };
  for (const Expected& expected : all) {
    const absl::Status status = Annotate(driver->Check(expected.result, "cuThing"), "loading");
    EXPECT_EQ(ReasonOf(status), expected.reason) << status;
    EXPECT_EQ(CudaDriver::NeedsProcessExit(status), expected.needs_exit) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("loading: cuThing: "), HasSubstr(expected.text)));
  }
  EXPECT_EQ(driver->Check(cuda::CUDA_SUCCESS, "cuThing"), absl::OkStatus());
}

}  // namespace
}  // namespace weightd
