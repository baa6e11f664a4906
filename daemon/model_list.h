#ifndef WEIGHTD_DAEMON_MODEL_LIST_H_
#define WEIGHTD_DAEMON_MODEL_LIST_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/uri.h"
#include "daemon/cache/cache.h"
#include "daemon/configured_models.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/loader.h"
#include "daemon/service/model_names.h"
#include "weightd/v1/admin.pb.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// What the config's model list says, for all who act on it: what models are called, what is asked
// of their bytes, where they are placed, and what is promised of them. Another list may take its
// place while the daemon runs. Whoever asks finds the one or the other, whole; a model that is new
// is placed, and its bytes are held against its SHA-256, before anybody can name it.
//
// Thread-safe, but for Place, Keep and StopKeeping. All lists come from valid configs.
class ModelList {
 public:
  ModelList() = default;
  ModelList(const ModelList&) = delete;

  // The first list, in this order: what it says of names and bytes, where its models are placed,
  // and from when on its promises are kept. `cache` and `gpus` outlive that.
  absl::Status Set(const v1::Config& config) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Place(const v1::Config& config, cache::Cache* cache, const device::Gpus* gpus);
  void Keep();
  // Its promises are kept no longer, and no preload of its runs.
  void StopKeeping() { promises_.reset(); }

  // Another list, while promises are kept.
  absl::Status Replace(const v1::Config& config) ABSL_LOCKS_EXCLUDED(mutex_);

  const service::ModelNames& names() const { return names_; }
  pipeline::LoadRules RulesOf(const Uri& model) const ABSL_LOCKS_EXCLUDED(mutex_);
  bool Pins(const Uri& model) const ABSL_LOCKS_EXCLUDED(mutex_);
  // While promises are kept: how far.
  std::vector<v1::ConfiguredModel> Snapshot() const { return promises_->Snapshot(); }

 private:
  // By URI; those of models that are not named have no key.
  struct Rules {
    std::map<std::string, pipeline::LoadRules> of_models;
    pipeline::LoadRules by_default;
    std::set<std::string> pinned;
  };

  static absl::StatusOr<Rules> RulesIn(const v1::Config& config);
  // What is to be promised, once the cache was told of the placements.
  absl::StatusOr<std::vector<ConfiguredModels::Model>> Placed(const v1::Config& config) const;

  service::ModelNames names_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<const Rules> rules_ ABSL_GUARDED_BY(mutex_) = std::make_shared<const Rules>();

  cache::Cache* cache_ = nullptr;
  const device::Gpus* gpus_ = nullptr;
  // Until they are kept.
  std::vector<ConfiguredModels::Model> first_promises_;
  std::unique_ptr<ConfiguredModels> promises_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_MODEL_LIST_H_
