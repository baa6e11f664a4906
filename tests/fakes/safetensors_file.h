#ifndef WEIGHTD_TESTS_FAKES_SAFETENSORS_FILE_H_
#define WEIGHTD_TESTS_FAKES_SAFETENSORS_FILE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace weightd::fakes {

struct TensorToWrite {
  std::string name;
  // As the format spells it: "F32".
  std::string dtype = "U8";
  std::vector<uint64_t> shape;
  // As many as dtype and shape say; not checked here.
  std::string bytes;
};

struct SafetensorsOptions {
  // The data begins this many bytes after a multiple of 8; writers since 2022 make it 0.
  uint64_t misalignment = 0;
  std::map<std::string, std::string> metadata;
};

// A file with these tensors in this order.
std::string SafetensorsFile(const std::vector<TensorToWrite>& tensors,
                            const SafetensorsOptions& options = {});

// A tensor of `count` F32 numbers whose bytes depend on `seed`.
TensorToWrite F32Tensor(std::string name, uint64_t count, uint32_t seed);

// The bytes of `model.safetensors.index.json` for this map of tensors to files.
std::string ShardIndexFile(const std::map<std::string, std::string>& weight_map);

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_SAFETENSORS_FILE_H_
