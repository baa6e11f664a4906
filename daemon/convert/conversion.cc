#include "daemon/convert/conversion.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/convert/cast.h"

namespace weightd::convert {
namespace {

// torch packs two F4 into a byte, and counts bytes.
constexpr absl::string_view kPackedF4 = "float4_e2m1fn_x2";

// Types of torch's that the formats name in different ways.
void Rename(OutputFormat format, format::TensorEntry& tensor) {
  if (format == OutputFormat::kSafetensors && tensor.torch_type == kPackedF4 &&
      !tensor.shape.empty()) {
    tensor.dtype = DType::kF4;
    tensor.torch_type.clear();
    tensor.shape.back() *= 2;
  } else if (format == OutputFormat::kTensorizer && tensor.dtype == DType::kF4 &&
             !tensor.shape.empty() && tensor.shape.back() % 2 == 0) {
    tensor.dtype = DType::kU8;
    tensor.torch_type = std::string(kPackedF4);
    tensor.shape.back() /= 2;
  }
}

TensorToConvert Target(uint32_t file, const format::TensorEntry& from,
                       const ConversionOptions& options) {
  TensorToConvert tensor = {file, &from, from, {}};
  format::TensorEntry& to = tensor.to;
  if (options.cast.has_value() && from.torch_type.empty() && IsCastable(from.dtype) &&
      from.dtype != *options.cast) {
    tensor.cast_to = options.cast;
    to.dtype = *options.cast;
    to.nbytes = CastBytes(from.dtype, to.dtype, from.nbytes);
  }
  Rename(options.format, to);
  const bool stored = options.format == OutputFormat::kSafetensors || !from.bytes.empty();
  to.bytes = {0, stored ? to.nbytes : 0};
  return tensor;
}

// safetensors' save_model stores tensors that share memory once, and says under the others' names
// in the metadata which one that is. tensorizer files have no metadata: there they are stored
// again.
void AddAliases(const Input& input, std::vector<TensorToConvert>& tensors) {
  std::map<absl::string_view, TensorToConvert> stored;
  for (const TensorToConvert& tensor : tensors) {
    stored.emplace(tensor.from->name, tensor);
  }
  for (const auto& [name, of] : input.Metadata()) {
    const auto found = stored.find(of);
    if (found != stored.end() && name != "format" && stored.count(name) == 0) {
      tensors.push_back(found->second);
      tensors.back().to.name = name;
    }
  }
}

// A module's own tensors have a dot before their names in tensorizer files.
void DropLeadingDots(std::vector<TensorToConvert>& tensors) {
  std::set<std::string> names;
  for (const TensorToConvert& tensor : tensors) {
    names.insert(tensor.to.name);
  }
  for (TensorToConvert& tensor : tensors) {
    std::string& name = tensor.to.name;
    const bool of_module = tensor.from->record.has_value() &&
                           tensor.from->record->kind != format::TensorKind::kStateDict;
    if (of_module && absl::StartsWith(name, ".") && name.size() > 1 &&
        names.insert(name.substr(1)).second) {
      name.erase(0, 1);
    }
  }
}

absl::Status CheckUnique(const Input& input, const std::vector<TensorToConvert>& tensors) {
  std::map<absl::string_view, uint32_t> files;
  for (const TensorToConvert& tensor : tensors) {
    const auto [at, is_new] = files.emplace(tensor.from->name, tensor.file);
    if (!is_new) {
      return Error(Reason::kMalformedModel,
                   absl::StrCat("tensor ", PrintableText(tensor.from->name), " is in two files, ",
                                input.model.files[at->second].name, " and ",
                                input.model.files[tensor.file].name),
                   "name one of the files, or add the index that their writer made");
    }
  }
  return absl::OkStatus();
}

void NameShards(OutputFormat format, std::vector<Shard>& shards) {
  const absl::string_view ending = format == OutputFormat::kSafetensors ? "safetensors" : "tensors";
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].name = absl::StrFormat("model-%05d-of-%05d.%s", i + 1, shards.size(), ending);
  }
}

}  // namespace

absl::StatusOr<std::vector<Shard>> PlanConversion(const Input& input,
                                                  const ConversionOptions& options) {
  std::vector<TensorToConvert> tensors;
  for (uint32_t file = 0; file < input.headers.size(); ++file) {
    for (const format::TensorEntry& tensor : input.headers[file].tensors) {
      tensors.push_back(Target(file, tensor, options));
    }
  }
  RETURN_IF_ERROR(CheckUnique(input, tensors));
  if (options.format == OutputFormat::kSafetensors) {
    DropLeadingDots(tensors);
  } else {
    AddAliases(input, tensors);
  }
  std::vector<Shard> shards(1);
  uint64_t bytes = 0;
  for (TensorToConvert& tensor : tensors) {
    if (options.shard_bytes > 0 && !shards.back().tensors.empty() &&
        (bytes > options.shard_bytes || tensor.to.nbytes > options.shard_bytes - bytes)) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += tensor.to.nbytes;
    shards.back().tensors.push_back(std::move(tensor));
  }
  if (options.shard_bytes > 0) {
    NameShards(options.format, shards);
  }
  return shards;
}

std::map<std::string, std::string> NewMetadata(std::map<std::string, std::string> metadata) {
  metadata.emplace("format", "pt");
  return metadata;
}

}  // namespace weightd::convert
