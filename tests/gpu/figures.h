#ifndef WEIGHTD_TESTS_GPU_FIGURES_H_
#define WEIGHTD_TESTS_GPU_FIGURES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/cuda_memory.h"
#include "common/fd.h"

// What the figures of tests/gpu are measured with: one GPU, and memory that it fetches from. A
// figure's program prints a line of JSON for each round: seconds by what took them.

namespace weightd::figures {

inline constexpr uint64_t kMiB = 1 << 20;

// The first GPU that this process sees.
absl::StatusOr<std::shared_ptr<const CudaContext>> OpenGpu(const std::string& driver);

// A memfd of so many bytes, in huge pages where the kernel lets them and `huge` asks for them, each
// page written.
absl::StatusOr<Fd> MakeSource(uint64_t bytes, bool huge);

// A stream of the GPU's with what takes its copies' time: each copies `bytes` and returns when they
// are there. Used with the context current.
class RawCopies {
 public:
  // `pinned_bytes` of cuMemAllocHost's memory: what is copied from the host is copied from there,
  // again and again.
  static absl::StatusOr<std::unique_ptr<RawCopies>> Make(std::shared_ptr<const CudaContext> context,
                                                         uint64_t pinned_bytes);
  ~RawCopies();
  RawCopies(const RawCopies&) = delete;

  // What the bus gives.
  absl::Status FromHost(cuda::CUdeviceptr to, uint64_t bytes) const;
  // What the GPU's memory gives.
  absl::Status OnDevice(cuda::CUdeviceptr to, cuda::CUdeviceptr from, uint64_t bytes) const;

 private:
  explicit RawCopies(std::shared_ptr<const CudaContext> context) : context_(std::move(context)) {}

  const std::shared_ptr<const CudaContext> context_;
  cuda::CUstream stream_ = nullptr;
  void* pinned_ = nullptr;
  uint64_t pinned_bytes_ = 0;
};

// Of one round, by what is measured. A contender adds what it measured.
using Round = std::map<std::string, double>;
using Contender = std::function<absl::Status(Round&)>;

// Adds to the round the seconds that `what` takes.
absl::Status Timed(Round& round, const std::string& name,
                   const std::function<absl::Status()>& what);

// Calls each contender once a round, each round in another order, and prints the rounds, after one
// that doesn't count: first copies pay for what the driver makes once.
absl::Status RunRounds(const std::map<std::string, Contender>& contenders, int rounds);

// The figures. `bytes` are a multiple of 2 MiB.

// "bus", "on_device": raw copies. "ring": what the worker does with a host segment. "registered":
// the same with the whole segment registered for it, and "registered_copy" without the time that
// registering takes.
absl::Status MeasureCopies(const std::shared_ptr<const CudaContext>& context, uint64_t bytes,
                           int rounds);
// "small_pages", "huge_pages": cuMemHostRegister of a memfd's map.
absl::Status MeasureRegistration(const std::shared_ptr<const CudaContext>& context, uint64_t bytes,
                                 int rounds);
// "import", "reserve", "map", "set_access", "unmap" of what another process exported. Starts that
// process: before this one has used CUDA.
absl::Status MeasureMapping(const std::string& driver, uint64_t bytes, int rounds);

}  // namespace weightd::figures

#endif  // WEIGHTD_TESTS_GPU_FIGURES_H_
