#ifndef WEIGHTD_DAEMON_SOURCE_HF_HF_SOURCE_H_
#define WEIGHTD_DAEMON_SOURCE_HF_HF_SOURCE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/source/hf/hf_settings.h"
#include "daemon/source/http/http_options.h"
#include "daemon/source/source.h"

namespace weightd::source {

struct HfSourceOptions {
  // For reads of those who may reach what the daemon's user may (ReadPolicy::any_path).
  HfSettings settings;
  // What other reads have: the token and the cache that the operator named for them, not what the
  // daemon's own user happens to have.
  HfToken shared_token;
  std::string shared_cache;
  HttpSourceOptions http;
  // Called, from any thread, for a file whose copy in a local cache is damaged: once for each copy.
  // May be null.
  std::function<void(const std::string& file)> on_damaged_copy = nullptr;
};

// hf://organisation/name@revision/ and files of it: a hub of models that speaks as huggingface.co
// does. A version's validator is the commit and the file's hash, which is SHA-256 for large files
// and checked by loads. What the local cache holds of a commit is read from there, after the hub
// has said that the file may be had, or if the hub can't be reached; what the cache lacks is then
// unavailable, not absent, unless it is an index of shards (say) of a folder whose weights the
// cache has in one file. A copy there that turns out to be damaged is left alone from then on: the
// hub's bytes are read instead. Without an address of a hub (HfSettings::endpoint) all but what the
// cache gives offline fails with its status. INVALID_ARGUMENT for options that make no sense.
absl::StatusOr<std::unique_ptr<Source>> MakeHfSource(HfSourceOptions options);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HF_HF_SOURCE_H_
