#ifndef WEIGHTD_DAEMON_CONVERT_VERIFY_MODEL_H_
#define WEIGHTD_DAEMON_CONVERT_VERIFY_MODEL_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/convert/convert.h"
#include "daemon/convert/tensor_reader.h"
#include "daemon/format/header.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/registry.h"

namespace weightd::convert {

struct VerifiedTensor {
  // The weight file.
  std::string file;
  format::TensorEntry entry;
  // What proved its bytes, if `status` is OK. Nothing may have: safetensors have no checksums.
  TensorFinding found;
  // OK, or what is wrong with it.
  absl::Status status;
};

struct VerifyRequest {
  Uri input;
  std::optional<pipeline::ModelKey> key = {};
  // See OpenInput.
  bool unpinned = false;
};

// Reads every byte of a model's tensors and holds each tensor against every checksum that its file
// has for it, and encrypted ones against their key. What is wrong with one tensor is in its row; an
// error is what kept the others from being looked at: kKeyRefused for a key that opens none of the
// first. In the order of the files.
absl::StatusOr<std::vector<VerifiedTensor>> VerifyModel(const source::Registry& sources,
                                                        const VerifyRequest& request, Report report,
                                                        Cancellation& cancellation);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_VERIFY_MODEL_H_
