// The C++ lines of the READMEs, compiled.

#include "absl/status/statusor.h"
#include "client/cpp/client.h"

namespace weightd::client {

absl::StatusOr<float> FirstWeight() {
  auto client = Client::Connect();
  if (!client.ok()) return client.status();
  auto model = client->Attach("https://models.example/llama/model.safetensors");
  if (!model.ok()) return model.status();
  auto tensor = model->tensor("lm_head.weight");
  if (!tensor.ok()) return tensor.status();
  auto weights = tensor->As<float>();  // a span over the shared memory, while the model lives
  if (!weights.ok()) return weights.status();
  return weights->front();
}

absl::StatusOr<cuda::CUdeviceptr> WeightsOnGpu(const absl::StatusOr<Client>& client) {
  // A copy to write to, on torch's "cuda:0"; kShared, the default, is one copy for all processes.
  const DeviceOptions gpu = {.ordinal = 0, .mode = DeviceMode::kPrivate};
  auto model = client->AttachToDevice("https://models.example/llama/model.safetensors", gpu);
  if (!model.ok()) return model.status();
  auto tensor = model->tensor("lm_head.weight");
  if (!tensor.ok()) return tensor.status();
  return tensor->pointer();  // of the GPU's memory, in the primary context: the runtime API's
}

}  // namespace weightd::client
