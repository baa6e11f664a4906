#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_FAKE_CUDA_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_FAKE_CUDA_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/gpu_id.h"

// What tests ask of a fake driver's folder (FAKE_CUDA_DIR), from any process: `device` is counted
// in FAKE_CUDA_DEVICES, whatever CUDA_VISIBLE_DEVICES says.

namespace weightd::fake_cuda {

GpuId GpuIdOf(int device);

// What is charged to the device now, by anybody who is alive.
uint64_t LiveBytes(const std::string& dir, int device);
uint64_t LiveAllocations(const std::string& dir, int device);
// Since the folder was made.
uint64_t CreatedAllocations(const std::string& dir, int device);
// The pids of those that have a context on it.
std::vector<int> ProcessesOn(const std::string& dir, int device);

// Adds a line as README.md explains: "cuMemCreate 2 OUT_OF_MEMORY", "device 0 lost".
void InjectFault(const std::string& dir, absl::string_view line);
void ClearFaults(const std::string& dir);

}  // namespace weightd::fake_cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_FAKE_CUDA_H_
