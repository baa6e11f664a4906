#include "tests/fakes/safetensors_file.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace weightd::fakes {
namespace {

// Names in tests need no JSON escapes.
std::string Object(const std::map<std::string, std::string>& strings) {
  return absl::StrCat("{",
                      absl::StrJoin(strings, ",",
                                    [](std::string* out, const auto& entry) {
                                      absl::StrAppend(out, "\"", entry.first, "\":\"", entry.second,
                                                      "\"");
                                    }),
                      "}");
}

}  // namespace

std::string SafetensorsFile(const std::vector<TensorToWrite>& tensors,
                            const SafetensorsOptions& options) {
  std::vector<std::string> entries;
  if (!options.metadata.empty()) {
    entries.push_back(absl::StrCat("\"__metadata__\":", Object(options.metadata)));
  }
  uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    entries.push_back(absl::StrCat("\"", tensor.name, "\":{\"dtype\":\"", tensor.dtype,
                                   "\",\"shape\":[", absl::StrJoin(tensor.shape, ","),
                                   "],\"data_offsets\":[", offset, ",",
                                   offset + tensor.bytes.size(), "]}"));
    offset += tensor.bytes.size();
  }
  std::string header = absl::StrCat("{", absl::StrJoin(entries, ","), "}");
  while (header.size() % 8 != options.misalignment) {
    header += ' ';
  }
  std::string file;
  file.reserve(8 + header.size() + offset);
  for (int byte = 0; byte < 8; ++byte) {
    file += static_cast<char>(header.size() >> (8 * byte));
  }
  file += header;
  for (const TensorToWrite& tensor : tensors) {
    file += tensor.bytes;
  }
  return file;
}

TensorToWrite F32Tensor(std::string name, uint64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  TensorToWrite tensor{std::move(name), "F32", {count}, std::string(count * 4, '\0')};
  for (char& byte : tensor.bytes) {
    byte = static_cast<char>(random());
  }
  return tensor;
}

std::string ShardIndexFile(const std::map<std::string, std::string>& weight_map) {
  return absl::StrCat("{\"metadata\":{},\"weight_map\":", Object(weight_map), "}");
}

}  // namespace weightd::fakes
