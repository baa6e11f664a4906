#ifndef WEIGHTD_DAEMON_CONVERT_CONVERT_H_
#define WEIGHTD_DAEMON_CONVERT_CONVERT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/convert/conversion.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/registry.h"

namespace weightd::convert {

struct ConvertRequest {
  Uri input;
  // A local path; nothing is there yet. A folder if options.shard_bytes is set.
  std::string output;
  ConversionOptions options;
  // Opens the input.
  std::optional<pipeline::ModelKey> key = {};
  // Encrypts the output, a tensorizer file.
  std::optional<pipeline::ModelKey> encrypt = {};
  // See OpenInput.
  bool unpinned = false;
  // How the input is verified.
  pipeline::VerifyPolicy verify = pipeline::VerifyPolicy::kFast;
};

struct ConvertedFile {
  std::string path;
  uint64_t bytes = 0;
  uint64_t tensors = 0;
};

struct Progress {
  // Of the input's tensors.
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

// Called from any thread, one at a time.
using Report = absl::FunctionRef<void(const Progress&)>;

// Writes a model in another format, type or cut. Every tensor that isn't cast keeps its bytes.
// Takes the memory of a few buffers, whatever the model's size. The output appears when it is
// whole, on disk, or not at all.
absl::StatusOr<std::vector<ConvertedFile>> Convert(const source::Registry& sources,
                                                   const ConvertRequest& request, Report report,
                                                   Cancellation& cancellation);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_CONVERT_H_
