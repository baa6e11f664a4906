#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_ERRORS_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_ERRORS_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "common/cuda_types.h"

namespace weightd::fake_cuda {

struct ErrorText {
  cuda::CUresult result;
  // As in cuda.h.
  const char* name;
  const char* text;
};

// Null for a number that is no CUresult we know.
const ErrorText* FindError(cuda::CUresult result);

// By its name in cuda.h, with or without "CUDA_ERROR_".
std::optional<cuda::CUresult> ErrorNamed(absl::string_view name);

// Whether the real driver gives it to every later call of the process.
bool IsSticky(cuda::CUresult result);

}  // namespace weightd::fake_cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_ERRORS_H_
