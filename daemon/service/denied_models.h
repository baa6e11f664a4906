#ifndef WEIGHTD_DAEMON_SERVICE_DENIED_MODELS_H_
#define WEIGHTD_DAEMON_SERVICE_DENIED_MODELS_H_

#include <string>
#include <utility>

#include "absl/types/span.h"
#include "daemon/service/access.h"
#include "daemon/service/model_names.h"
#include "daemon/source/source.h"

namespace weightd::service {

// What a listener denies, for those who find files without having been told their names: the
// files of a folder or a shard index, and where redirects lead. Thread-safe.
class DeniedModels final : public source::Denial {
 public:
  // `names` outlives it.
  DeniedModels(Access access, const ModelNames* names)
      : access_(std::move(access)), names_(names) {}

  bool Covers(absl::Span<const std::string> places) const override;

 private:
  const Access access_;
  const ModelNames* const names_;
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_DENIED_MODELS_H_
