#include "tests/fakes/fake_cuda/fake_cuda.h"

#include "absl/strings/str_cat.h"
#include "tests/fakes/fake_cuda/faults.h"
#include "tests/fakes/fake_cuda/settings.h"
#include "tests/fakes/fake_cuda/store.h"

namespace weightd::fake_cuda {

GpuId GpuIdOf(int device) { return UuidOf(device); }

uint64_t LiveBytes(const std::string& dir, int device) { return ReadUsage(dir, device).live_bytes; }

uint64_t LiveAllocations(const std::string& dir, int device) {
  return ReadUsage(dir, device).live_allocations;
}

uint64_t CreatedAllocations(const std::string& dir, int device) {
  return ReadUsage(dir, device).created_allocations;
}

std::vector<int> ProcessesOn(const std::string& dir, int device) {
  return ReadUsage(dir, device).processes;
}

void InjectFault(const std::string& dir, absl::string_view line) { AddFault(dir, line); }

void ClearFaults(const std::string& dir) { RemoveFaults(dir); }

}  // namespace weightd::fake_cuda
