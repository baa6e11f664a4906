#ifndef WEIGHTD_CLIENT_CLI_CONVERT_H_
#define WEIGHTD_CLIENT_CLI_CONVERT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "client/cli/store_access.h"
#include "common/cancellation.h"
#include "daemon/convert/convert.h"
#include "daemon/convert/verify_model.h"

namespace weightd::cli {

// As they stand on the command line.
struct ConvertArguments {
  // URI or path.
  std::string input;
  std::string output;
  // "safetensors", "tensorizer" or empty: as the output's name ends.
  std::string format;
  // "bf16", "f16", "f32" or empty: as it is.
  std::string dtype;
  // 0: one file.
  uint64_t shard_bytes = 0;
  // As kKeyForms, or of AES-CTR as kCtrKeyForms, or empty: none.
  std::string key;
  // Of AES-CTR, if the files don't say theirs: hexadecimal or base64 digits.
  std::string iv;
  std::string encrypt;
  // "fast", "full" or "never".
  std::string verify = "fast";
  bool unpinned = false;
  StoreAccess store;
};

struct ConvertResult {
  // A path or a URI.
  std::string target;
  std::vector<convert::ConvertedFile> files;
};

// Writes the output anew. An output in a store is tried before anything is read, then written to a
// temporary folder and pushed.
absl::StatusOr<ConvertResult> ConvertModel(const ConvertArguments& arguments,
                                           convert::Report report, Cancellation& cancellation);

// What is wrong with a tensor is in its row.
absl::StatusOr<std::vector<convert::VerifiedTensor>> VerifyInput(const ConvertArguments& arguments,
                                                                 convert::Report report,
                                                                 Cancellation& cancellation);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_CONVERT_H_
