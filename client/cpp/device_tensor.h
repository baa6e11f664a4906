#ifndef WEIGHTD_CLIENT_CPP_DEVICE_TENSOR_H_
#define WEIGHTD_CLIENT_CPP_DEVICE_TENSOR_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "client/cpp/tensor_info.h"
#include "common/cuda_types.h"

namespace weightd::client {

// One tensor of a model in a GPU's memory. Valid while a copy of its DeviceModel lives; owns
// nothing.
class DeviceTensor : public TensorInfo {
 public:
  // Where tensors lie: the room from the segment's first byte to the end of what is mapped.
  struct Memory {
    cuda::CUdeviceptr pointer = 0;
    uint64_t bytes = 0;
  };

  DeviceTensor(const TensorInfo& info, const Memory& memory)
      : TensorInfo(info), pointer_(memory.pointer + info.offset()) {}
  // Another name of `stored`.
  DeviceTensor(absl::string_view alias, const DeviceTensor& stored) : DeviceTensor(stored) {
    BecomeAlias(alias);
  }

  // First byte on the GPU, for kernels and copies; the CPU can't read it. Nothing may be read there
  // if nbytes() is 0.
  cuda::CUdeviceptr pointer() const { return pointer_; }

 private:
  cuda::CUdeviceptr pointer_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_DEVICE_TENSOR_H_
