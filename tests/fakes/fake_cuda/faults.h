#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_FAULTS_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_FAULTS_H_

#include <string>

#include "absl/strings/string_view.h"
#include "common/cuda_types.h"

// The file `faults` in FAKE_CUDA_DIR, read at every call, whose lines README.md explains.

namespace weightd::fake_cuda {

// Whether there are faults at all: without, nothing need be asked.
bool AnyFaults(const std::string& dir);

// What is to come of this call of `function` (its name in cuda.h, without "_v2"): CUDA_SUCCESS if
// no line is about it. Does not return if a line says KILL.
cuda::CUresult NextFault(const std::string& dir, absl::string_view function);

bool IsLost(const std::string& dir, int ordinal);

void AddFault(const std::string& dir, absl::string_view line);
void RemoveFaults(const std::string& dir);

}  // namespace weightd::fake_cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_FAULTS_H_
