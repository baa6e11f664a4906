#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_STORE_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_STORE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/cuda_types.h"
#include "common/fd.h"

// What processes share: files in FAKE_CUDA_DIR. Who holds what is told by locks on them, which the
// kernel drops when the last holder is gone, however it went: nothing is counted that could go
// wrong. All that looks at the files, or adds one, does so under the lock of the folder.

namespace weightd::fake_cuda {

// The folder, locked among processes and threads. Not reentrant.
class FolderLock {
 public:
  explicit FolderLock(const std::string& dir);
  FolderLock(const FolderLock&) = delete;

 private:
  Fd file_;
};

// One allocation's bytes. Its file is locked, shared, as long as any descriptor made from `file` is
// open in any process: then it lives, and is charged to its device.
struct AllocationFile {
  Fd file;
  int ordinal = 0;
  // Who made it, and its how-manieth.
  int pid = 0;
  uint64_t sequence = 0;
  uint64_t bytes = 0;
};

// CUDA_ERROR_OUT_OF_MEMORY if the device, of `capacity` bytes, has not so many free.
cuda::CUresult CreateAllocation(const std::string& dir, int ordinal, uint64_t capacity,
                                uint64_t bytes, AllocationFile* created);
// From any descriptor of it, of any process. CUDA_ERROR_INVALID_VALUE if it is none.
cuda::CUresult ImportAllocation(const std::string& dir, int fd, AllocationFile* imported);
// By name: what legacy handles need. CUDA_ERROR_INVALID_VALUE if there is none, or its maker has
// ended.
cuda::CUresult OpenAllocation(const std::string& dir, int ordinal, int pid, uint64_t sequence,
                              AllocationFile* opened);

// This process uses the device, until the descriptor is closed or it ends; then the file may stay,
// unlocked.
Fd EnterDevice(const std::string& dir, int ordinal);
void LeaveDevice(const std::string& dir, int ordinal, Fd entered);
bool IsOnDevice(const std::string& dir, int ordinal, int pid);

struct Usage {
  uint64_t live_bytes = 0;
  uint64_t live_allocations = 0;
  // Of all time.
  uint64_t created_bytes = 0;
  uint64_t created_allocations = 0;
  // Those that have a context there.
  std::vector<int> processes;
};

// Removes what nobody holds any more.
Usage ReadUsage(const std::string& dir, int ordinal);

}  // namespace weightd::fake_cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_STORE_H_
