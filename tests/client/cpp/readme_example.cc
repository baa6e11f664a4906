// The README's C++ lines, compiled.

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

}  // namespace weightd::client
