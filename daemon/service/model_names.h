#ifndef WEIGHTD_DAEMON_SERVICE_MODEL_NAMES_H_
#define WEIGHTD_DAEMON_SERVICE_MODEL_NAMES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/uri.h"

namespace weightd::service {

// The models of the config's list, and what clients call them. Filled at start, then read from any
// thread.
class ModelNames {
 public:
  // INVALID_ARGUMENT for a name given twice and for a malformed URI.
  absl::Status Add(const std::string& name, absl::string_view uri);

  // What a client's word for a model stands for: the alias's URI, or the word itself as a URI.
  // INVALID_URI if it is neither, or longer than 8192 bytes.
  absl::StatusOr<Uri> Resolve(absl::string_view model) const;

  // Names of that URI, sorted; empty if it isn't on the list.
  std::vector<std::string> AliasesOf(const Uri& uri) const;

  // Names of that URI and of every folder that it lies in, whatever their queries and last slashes.
  std::vector<std::string> AliasesAround(const Uri& uri) const;

  // Each URI of the list once.
  std::vector<Uri> Configured() const;

 private:
  std::map<std::string, Uri> by_name_;
  // By normalised URI.
  std::map<std::string, std::vector<std::string>> aliases_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_MODEL_NAMES_H_
