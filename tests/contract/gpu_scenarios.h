#ifndef WEIGHTD_TESTS_CONTRACT_GPU_SCENARIOS_H_
#define WEIGHTD_TESTS_CONTRACT_GPU_SCENARIOS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cuda_driver.h"
#include "common/cuda_memory.h"

namespace weightd {

// What a process of a test does by itself, call after call, and what came of it, in words: the
// names of the CUresults in order, or what else is said.
//   uninitialized            cuDeviceGetCount before cuInit
//   no_context               calls that need a context, without one
//   rules_of_mapping         sizes, addresses and ranges that cuMemCreate and its neighbours refuse
//   import_garbage           descriptors that are no memory of a GPU
//   register_host            one that may be, twice, unknown
//   register_read_only       a map that can't be written
//   register_too_much BYTES  more than the driver takes in one call
//   pinned_host              memory of cuMemAllocHost is copied from and given back
//   later                    "not ready" before the stream reached the event, then "ready"
//   reused                   the source changes before the event: "changed" if the copy saw it
//   pageable                 the same from memory that is not pinned: "as it was"
//   device_to_device         copies within the GPU
// `context` may be null for the first two.
absl::StatusOr<std::string> PlayScenario(absl::string_view name, const CudaDriver& driver,
                                         std::shared_ptr<const CudaContext> context);

}  // namespace weightd

#endif  // WEIGHTD_TESTS_CONTRACT_GPU_SCENARIOS_H_
