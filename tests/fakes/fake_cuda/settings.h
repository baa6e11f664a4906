#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_SETTINGS_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_SETTINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"

namespace weightd::fake_cuda {

// What the environment says of the fake; README.md lists the variables.

struct DeviceSettings {
  // Counted in FAKE_CUDA_DEVICES, whatever is visible: the same in every process.
  int ordinal = 0;
  GpuId uuid;
  uint64_t bytes = 0;
};

struct Settings {
  // Resolved: no symbolic links.
  std::string dir;
  // Those that CUDA_VISIBLE_DEVICES leaves, in its order.
  std::vector<DeviceSettings> visible;
  absl::Duration copy_delay;
  uint64_t register_limit = 0;
  bool exporter_must_live = false;
};

// GPU-fa4ec0da-0000-4000-8000-0000000000NN, NN being `ordinal` in hexadecimal.
GpuId UuidOf(int ordinal);

absl::StatusOr<Settings> ReadSettings();

// Of FAKE_CUDA_VERSION; needs nothing else of the environment.
int DriverVersion();

}  // namespace weightd::fake_cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_SETTINGS_H_
