#ifndef WEIGHTD_TESTS_DAEMON_PIPELINE_LOAD_TO_GPUS_H_
#define WEIGHTD_TESTS_DAEMON_PIPELINE_LOAD_TO_GPUS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/gpu_id.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "tests/daemon/pipeline/load_from_memory.h"
#include "tests/fakes/fake_gpus.h"
#include "tests/fakes/safetensors_file.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::pipeline {

// Made before the loader that uses them.
struct TwoGpus {
  const GpuId one_ = fakes::MakeGpuId(1);
  const GpuId two_ = fakes::MakeGpuId(2);
  fakes::FakeGpus gpus_{{{one_, 256 << 20}, {two_, 256 << 20}}};
};

// Loads to GPUs from a source in memory, with 2 MiB of staging memory where nothing is to stay on
// the host.
class LoadToGpus : protected TwoGpus, public LoadFromMemory {
 protected:
  using TensorBytes = std::map<std::string, std::string>;
  static constexpr uint64_t kStagingBytes = 2 << 20;

  LoadToGpus();

  static TensorBytes BytesOf(const std::vector<fakes::TensorToWrite>& tensors);
  static TensorBytes BytesOf(const std::vector<fakes::TensorizerTensor>& tensors);

  LoaderOptions Options();
  void Remake(LoaderOptions options);

  // The model lies on that many GPUs (and on the host if it is among the destinations), tensor by
  // tensor.
  void ExpectOnGpus(const ResidentModel& model, const TensorBytes& tensors, size_t count);
  // A load that failed has left nothing on the host and on GPUs.
  void ExpectNothingLeft();
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_TESTS_DAEMON_PIPELINE_LOAD_TO_GPUS_H_
