#ifndef WEIGHTD_DAEMON_SERVICE_MODEL_NAMES_H_
#define WEIGHTD_DAEMON_SERVICE_MODEL_NAMES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/uri.h"

namespace weightd::service {

// Whether a redacted URI is that of `place`, which has no last slash, or lies in it.
bool LiesIn(absl::string_view uri, absl::string_view place);

// The models of the config's list, and what clients call them. Thread-safe.
class ModelNames {
 public:
  struct Named {
    std::string name;
    std::string uri;
  };

  // These and no others from now on. INVALID_ARGUMENT for a name given twice and for a malformed
  // URI; then nothing changes.
  absl::Status Set(const std::vector<Named>& models) ABSL_LOCKS_EXCLUDED(mutex_);

  // What a client's word for a model stands for: the alias's URI, or the word itself as a URI.
  // INVALID_URI if it is neither, or longer than 8192 bytes.
  absl::StatusOr<Uri> Resolve(absl::string_view model) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Names of that URI, sorted; empty if it isn't on the list.
  std::vector<std::string> AliasesOf(const Uri& uri) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Names of that URI and of every folder that it lies in, whatever their queries and last slashes.
  std::vector<std::string> AliasesAround(const Uri& uri) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Where the models lie of which a name is `wanted`: redacted URIs without a last slash.
  std::vector<std::string> PlacesOf(absl::FunctionRef<bool(absl::string_view name)> wanted) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Each URI of the list once.
  std::vector<Uri> Configured() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, Uri> by_name_ ABSL_GUARDED_BY(mutex_);
  // By normalised URI.
  std::map<std::string, std::vector<std::string>> aliases_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_MODEL_NAMES_H_
