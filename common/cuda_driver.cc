#include "common/cuda_driver.h"

#include <dlfcn.h>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/cuda_symbols.h"
#include "common/status.h"

namespace weightd {
namespace {

using cuda::CUresult;

constexpr absl::string_view kNeedsExitPayload = "weightd.needs_process_exit";

// dlerror() is the thread's own, and empty after it was read.
std::string LoadError() {
  const char* text = dlerror();
  return text == nullptr ? "unknown error" : text;
}

template <typename Function>
absl::Status Find(void* handle, const std::string& library, const char* symbol,
                  Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(handle, symbol));
  if (function == nullptr) {
    return Error(Reason::kDeviceUnavailable,
                 absl::StrCat("the CUDA driver ", library, " has no ", symbol),
                 absl::StrCat("install a newer NVIDIA driver: ", library, " lacks ", symbol));
  }
  return absl::OkStatus();
}

std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

// What the driver says of the GPU as a whole, or of the driver itself: other work may go on without
// it, and a later try may succeed.
bool MeansNoDevice(CUresult result) {
  switch (result) {
    case cuda::CUDA_ERROR_NOT_INITIALIZED:
    case cuda::CUDA_ERROR_DEINITIALIZED:
    case cuda::CUDA_ERROR_STUB_LIBRARY:
    case cuda::CUDA_ERROR_DEVICE_UNAVAILABLE:
    case cuda::CUDA_ERROR_NO_DEVICE:
    case cuda::CUDA_ERROR_INVALID_DEVICE:
    case cuda::CUDA_ERROR_ECC_UNCORRECTABLE:
    case cuda::CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case cuda::CUDA_ERROR_SYSTEM_NOT_READY:
    case cuda::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
    case cuda::CUDA_ERROR_MPS_CLIENT_TERMINATED:
    case cuda::CUDA_ERROR_EXTERNAL_DEVICE:
      return true;
    default:
      return false;
  }
}

// Those of which cuda.h says that the process must be terminated and launched again, and those that
// a lost GPU gives.
bool StaysWithProcess(CUresult result) {
  switch (result) {
    case cuda::CUDA_ERROR_ECC_UNCORRECTABLE:
    case cuda::CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case cuda::CUDA_ERROR_ILLEGAL_ADDRESS:
    case cuda::CUDA_ERROR_LAUNCH_TIMEOUT:
    case cuda::CUDA_ERROR_HARDWARE_STACK_ERROR:
    case cuda::CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case cuda::CUDA_ERROR_MISALIGNED_ADDRESS:
    case cuda::CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case cuda::CUDA_ERROR_INVALID_PC:
    case cuda::CUDA_ERROR_LAUNCH_FAILED:
    case cuda::CUDA_ERROR_MPS_CLIENT_TERMINATED:
    case cuda::CUDA_ERROR_EXTERNAL_DEVICE:
      return true;
    default:
      return false;
  }
}

Reason ReasonOfResult(CUresult result) {
  if (result == cuda::CUDA_ERROR_OUT_OF_MEMORY) {
    return Reason::kDeviceMemoryShort;
  }
  return MeansNoDevice(result) ? Reason::kDeviceUnavailable : Reason::kInternal;
}

absl::string_view HintOfResult(CUresult result) {
  if (result == cuda::CUDA_ERROR_OUT_OF_MEMORY) {
    return "other processes may hold the GPU's memory: see nvidia-smi";
  }
  if (StaysWithProcess(result)) {
    return "CUDA fails in this process until it ends; the kernel's log (dmesg, Xid) may say why";
  }
  return MeansNoDevice(result) ? "see whether nvidia-smi works on this node" : "";
}

}  // namespace

absl::StatusOr<std::shared_ptr<const CudaDriver>> CudaDriver::Load(const std::string& library) {
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return Error(Reason::kDeviceUnavailable,
                 absl::StrCat("can't load the CUDA driver ", library, ": ", LoadError()),
                 absl::StrCat("install the NVIDIA driver, or name the path of its ", kLibrary));
  }
  std::shared_ptr<CudaDriver> driver(new CudaDriver());
  driver->library_ = library;
  // First: an old driver is told as such, not as one that lacks what came later.
  RETURN_IF_ERROR(Find(handle, library, "cuDriverGetVersion", driver->cuDriverGetVersion));
  RETURN_IF_ERROR(Find(handle, library, "cuGetErrorName", driver->cuGetErrorName));
  RETURN_IF_ERROR(Find(handle, library, "cuGetErrorString", driver->cuGetErrorString));
  RETURN_IF_ERROR(
      driver->Check(driver->cuDriverGetVersion(&driver->version_), "cuDriverGetVersion"));
  if (driver->version_ < kOldestVersion) {
    return Error(Reason::kDeviceUnavailable,
                 absl::StrCat("the CUDA driver ", library, " is of CUDA ",
                              VersionText(driver->version_), ", too old"),
                 absl::StrCat("install an NVIDIA driver of CUDA ", VersionText(kOldestVersion),
                              " or newer, instead of ", library));
  }
#define WEIGHTD_FIND(member, symbol) \
  RETURN_IF_ERROR(Find(handle, library, #symbol, driver->member));
  WEIGHTD_CUDA_SYMBOLS(WEIGHTD_FIND)
#undef WEIGHTD_FIND
  return driver;
}

absl::Status CudaDriver::Check(CUresult result, absl::string_view what) const {
  if (result == cuda::CUDA_SUCCESS) {
    return absl::OkStatus();
  }
  const char* name = nullptr;
  const char* text = nullptr;
  if (cuGetErrorName(result, &name) != cuda::CUDA_SUCCESS || name == nullptr ||
      cuGetErrorString(result, &text) != cuda::CUDA_SUCCESS || text == nullptr) {
    name = "CUresult";
    text = "an error that the driver does not know";
  }
  absl::Status status =
      Error(ReasonOfResult(result), absl::StrCat(what, ": ", name, " ", result, " (", text, ")"),
            HintOfResult(result));
  if (StaysWithProcess(result)) {
    status.SetPayload(kNeedsExitPayload, absl::Cord("1"));
  }
  return status;
}

bool CudaDriver::NeedsProcessExit(const absl::Status& status) {
  return status.GetPayload(kNeedsExitPayload).has_value();
}

}  // namespace weightd
