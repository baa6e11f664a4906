#include "tests/fakes/fake_cuda/errors.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/strip.h"

namespace weightd::fake_cuda {
namespace {

constexpr absl::string_view kPrefix = "CUDA_ERROR_";

#define FAKE_CUDA_ERROR(name, text) {cuda::name, #name, text}
constexpr ErrorText kErrors[] = {
    FAKE_CUDA_ERROR(CUDA_SUCCESS, "no error"),
    FAKE_CUDA_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    FAKE_CUDA_ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    FAKE_CUDA_ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    FAKE_CUDA_ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
    FAKE_CUDA_ERROR(CUDA_ERROR_STUB_LIBRARY, "CUDA driver is a stub library"),
    FAKE_CUDA_ERROR(CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA-capable device is busy or unavailable"),
    FAKE_CUDA_ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    FAKE_CUDA_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    FAKE_CUDA_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    FAKE_CUDA_ERROR(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
    FAKE_CUDA_ERROR(CUDA_ERROR_NVLINK_UNCORRECTABLE, "uncorrectable NVLink error detected"),
    FAKE_CUDA_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    FAKE_CUDA_ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
    FAKE_CUDA_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    FAKE_CUDA_ERROR(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
    FAKE_CUDA_ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
                    "part or all of the requested memory range is already mapped"),
    FAKE_CUDA_ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
                    "pointer does not correspond to a registered memory region"),
    FAKE_CUDA_ERROR(CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error"),
    FAKE_CUDA_ERROR(CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered"),
    FAKE_CUDA_ERROR(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    FAKE_CUDA_ERROR(CUDA_ERROR_INVALID_ADDRESS_SPACE,
                    "operation not supported on global/shared address space"),
    FAKE_CUDA_ERROR(CUDA_ERROR_INVALID_PC, "invalid program counter"),
    FAKE_CUDA_ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    FAKE_CUDA_ERROR(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
    FAKE_CUDA_ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    FAKE_CUDA_ERROR(CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized"),
    FAKE_CUDA_ERROR(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
                    "system has unsupported display driver / cuda driver combination"),
    FAKE_CUDA_ERROR(CUDA_ERROR_MPS_CLIENT_TERMINATED, "MPS client terminated"),
    FAKE_CUDA_ERROR(CUDA_ERROR_EXTERNAL_DEVICE, "exception was caused by an external device"),
    FAKE_CUDA_ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
};
#undef FAKE_CUDA_ERROR

constexpr cuda::CUresult kSticky[] = {
    cuda::CUDA_ERROR_ECC_UNCORRECTABLE,
    cuda::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    cuda::CUDA_ERROR_ILLEGAL_ADDRESS,
    cuda::CUDA_ERROR_LAUNCH_TIMEOUT,
    cuda::CUDA_ERROR_HARDWARE_STACK_ERROR,
    cuda::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    cuda::CUDA_ERROR_MISALIGNED_ADDRESS,
    cuda::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    cuda::CUDA_ERROR_INVALID_PC,
    cuda::CUDA_ERROR_LAUNCH_FAILED,
    cuda::CUDA_ERROR_MPS_CLIENT_TERMINATED,
    cuda::CUDA_ERROR_EXTERNAL_DEVICE,
};

}  // namespace

const ErrorText* FindError(cuda::CUresult result) {
  const auto* const found =
      std::find_if(std::begin(kErrors), std::end(kErrors),
                   [result](const ErrorText& error) { return error.result == result; });
  return found == std::end(kErrors) ? nullptr : found;
}

std::optional<cuda::CUresult> ErrorNamed(absl::string_view name) {
  absl::ConsumePrefix(&name, kPrefix);
  for (const ErrorText& error : kErrors) {
    if (absl::StripPrefix(error.name, kPrefix) == name) {
      return error.result;
    }
  }
  return std::nullopt;
}

bool IsSticky(cuda::CUresult result) {
  return std::find(std::begin(kSticky), std::end(kSticky), result) != std::end(kSticky);
}

}  // namespace weightd::fake_cuda
