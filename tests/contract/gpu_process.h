#ifndef WEIGHTD_TESTS_CONTRACT_GPU_PROCESS_H_
#define WEIGHTD_TESTS_CONTRACT_GPU_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/fd.h"

namespace weightd {

// A process of its own (gpu_process_main.cc) that does with the CUDA driver what it is told, one
// thing at a time: a fault is its own, and killing it is safe. Killed when this dies. Errors are
// those of common/cuda_memory.h in it, with reason, hint and NeedsProcessExit.
class GpuProcess {
 public:
  using Environment = std::vector<std::pair<std::string, std::string>>;

  // `driver` is the library's path; `environment` is added to ours.
  explicit GpuProcess(const std::string& driver, const Environment& environment = {});
  ~GpuProcess() { Kill(); }
  GpuProcess(const GpuProcess&) = delete;

  pid_t pid() const { return pid_; }
  // SIGKILL, and waits for its end.
  void Kill();
  // Waits for an end that is its own; the signal, or 0.
  int AwaitEnd();

  // Of a GPU's UUID as text, or the index it has there.
  absl::Status Retain(absl::string_view gpu);
  // Gives up the context.
  absl::Status Release();

  // Memory goes by a number, as the process counts what it holds.
  absl::StatusOr<int> Create(uint64_t bytes);
  absl::StatusOr<Fd> Export(int memory);
  absl::StatusOr<int> Import(const Fd& exported, uint64_t bytes, bool writable);
  // The same of a descriptor that may be anything.
  absl::StatusOr<int> ImportUnproven(const Fd& exported, uint64_t bytes);
  absl::StatusOr<int> Allocate(uint64_t bytes);
  // The 64 bytes of a pointer into it.
  absl::StatusOr<std::string> LegacyHandle(int memory, uint64_t offset = 0);
  absl::StatusOr<int> OpenLegacy(absl::string_view handle, uint64_t bytes);
  absl::Status Free(int memory);
  // Writes `value` everywhere, from host memory.
  absl::Status Fill(int memory, int value);
  // What every byte is; kInternal if they differ.
  absl::StatusOr<int> Read(int memory);
  absl::StatusOr<uint64_t> FreeBytes();

  // One of the things of gpu_scenarios.h.
  absl::StatusOr<std::string> Play(absl::string_view scenario);

 private:
  struct Answer {
    std::string text;
    Fd fd;
  };
  absl::StatusOr<Answer> Ask(const std::string& request, int fd = -1);
  absl::StatusOr<int> AskNumber(const std::string& request, int fd = -1);

  pid_t pid_ = -1;
  Fd socket_;
};

}  // namespace weightd

#endif  // WEIGHTD_TESTS_CONTRACT_GPU_PROCESS_H_
