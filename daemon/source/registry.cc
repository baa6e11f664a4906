#include "daemon/source/registry.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::source {

void Registry::Add(std::string scheme, std::shared_ptr<Source> source) {
  sources_.insert_or_assign(std::move(scheme), std::move(source));
}

absl::StatusOr<Source*> Registry::For(const Uri& uri) const {
  const auto found = sources_.find(uri.scheme());
  if (found == sources_.end()) {
    return Error(Reason::kUnsupported,
                 absl::StrCat(uri.Redacted(), ": no source serves ", uri.scheme(), ": URIs"));
  }
  return found->second.get();
}

}  // namespace weightd::source
