#ifndef WEIGHTD_DAEMON_CONVERT_CONVERSION_H_
#define WEIGHTD_DAEMON_CONVERT_CONVERSION_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/dtype.h"
#include "daemon/convert/input.h"
#include "daemon/format/header.h"

namespace weightd::convert {

enum class OutputFormat { kSafetensors, kTensorizer };

// A tensor of the input, and what becomes of it.
struct TensorToConvert {
  // Index into the input's files.
  uint32_t file = 0;
  const format::TensorEntry* from = nullptr;
  // Name, type, shape, nbytes and kind; `bytes` has the size that is stored, from 0 on.
  format::TensorEntry to;
  // The elements' types, if they are to be cast.
  std::optional<DType> cast_to = {};
};

// Tensors that go into one file, in this order.
struct Shard {
  // In the output folder; empty if the output is one file.
  std::string name;
  std::vector<TensorToConvert> tensors;
};

struct ConversionOptions {
  OutputFormat format = OutputFormat::kSafetensors;
  // The output is a folder of files of at most so many bytes of tensors (a larger tensor is alone
  // in its file); 0: one file.
  uint64_t shard_bytes = 0;
  // What floating-point tensors become; nothing: what they are.
  std::optional<DType> cast = {};
};

// What goes where. Refers to `input`. kMalformedModel for a name that two files have, kUnsupported
// for what the new format can't say. Pure.
absl::StatusOr<std::vector<Shard>> PlanConversion(const Input& input,
                                                  const ConversionOptions& options);

// What a safetensors file is to say of itself, if the input's own metadata is `metadata`: readers
// want to hear of a framework.
std::map<std::string, std::string> NewMetadata(std::map<std::string, std::string> metadata);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_CONVERSION_H_
