#ifndef WEIGHTD_TESTS_FAKES_FAKE_MODEL_H_
#define WEIGHTD_TESTS_FAKES_FAKE_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "common/fd.h"
#include "weightd/v1/tensor_index.pb.h"

namespace weightd::fakes {

// A model that the fake holds: the segment's bytes, and an index that need not fit them.
struct FakeModel {
  std::string bytes;
  v1::TensorIndex index;
  // What lies beside the weights; sent if not empty.
  std::string small_files = {};
  // For who asks for a GPU's memory: a descriptor of it, and its size; or a legacy handle.
  std::function<Fd()> export_from_device = nullptr;
  uint64_t device_bytes = 0;
  std::string legacy_handle = {};
};

// Two F32 tensors "a" ([2, 2]: 1, 2, 3, 4) and "b" (a scalar: 5) with metadata {"format": "pt"}.
FakeModel SmallModel();

// Says in the index that a model has such a file there.
void AddSmallFile(FakeModel& model, absl::string_view name, uint64_t offset, uint64_t bytes);

// A memfd with these bytes, sealed as the daemon seals unless told otherwise, opened read-only.
Fd MakeMemfd(absl::string_view bytes, bool sealed = true);

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_MODEL_H_
