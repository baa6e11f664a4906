#ifndef WEIGHTD_DAEMON_SOURCE_REGISTRY_H_
#define WEIGHTD_DAEMON_SOURCE_REGISTRY_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "daemon/source/source.h"

namespace weightd::source {

// Which source serves which scheme. Filled once, then read from any thread.
class Registry {
 public:
  // `source` serves URIs of `scheme`; one source may serve several.
  void Add(std::string scheme, std::shared_ptr<Source> source);

  // UNIMPLEMENTED (kUnsupported), naming the scheme, if nothing serves it. Lives as long as the
  // registry.
  absl::StatusOr<Source*> For(const Uri& uri) const;

 private:
  absl::flat_hash_map<std::string, std::shared_ptr<Source>> sources_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_REGISTRY_H_
