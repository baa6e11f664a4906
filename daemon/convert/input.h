#ifndef WEIGHTD_DAEMON_CONVERT_INPUT_H_
#define WEIGHTD_DAEMON_CONVERT_INPUT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/format/header.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/pipeline/tensor_keys.h"
#include "daemon/source/registry.h"
#include "daemon/source/source.h"

namespace weightd::convert {

// A model that is read: its files, and what they say of themselves.
struct Input {
  source::Source* source = nullptr;
  source::ReadPolicy policy;
  pipeline::ResolvedModel model;
  // Of model.files, in their order.
  std::vector<format::FileHeader> headers;

  // The files' metadata; of a key that several have, the first one's.
  std::map<std::string, std::string> Metadata() const;
};

// Checks all that the daemon checks before a load. `sources` outlives what it returns. The user may
// read what the process may read.
// kNotAllowed, unless `unpinned`, for files whose server says nothing that tells one version from
// another: bytes of two could be mixed. `key` opens headers that are encrypted.
absl::StatusOr<Input> OpenInput(const source::Registry& sources, const Uri& uri,
                                const std::optional<pipeline::ModelKey>& key, bool unpinned,
                                Cancellation& cancellation);

// kKeyMissing for an encrypted file without a key, kKeyRefused for a key where no file is
// encrypted, or one of another cipher.
absl::Status CheckKey(const Input& input, const pipeline::TensorKeys& keys);

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_INPUT_H_
