#include "daemon/model_list.h"

#include <utility>

#include "common/pins.h"
#include "common/status.h"
#include "daemon/configured_gpus.h"

namespace weightd {
namespace {

// Of a valid config.
pipeline::VerifyPolicy VerifyPolicyOf(absl::string_view name) {
  return name == "full"    ? pipeline::VerifyPolicy::kFull
         : name == "never" ? pipeline::VerifyPolicy::kNever
                           : pipeline::VerifyPolicy::kFast;
}

}  // namespace

absl::StatusOr<ModelList::Rules> ModelList::RulesIn(const v1::Config& config) {
  Rules rules;
  rules.by_default.verify = VerifyPolicyOf(config.verify());
  for (const v1::ModelConfig& model : config.models()) {
    ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(model.uri()));
    pipeline::LoadRules& of_model =
        rules.of_models.emplace(uri.ToString(), rules.by_default).first->second;
    if (!model.verify().empty()) {
      of_model.verify = VerifyPolicyOf(model.verify());
    }
    for (const std::string& pin : model.sha256()) {
      RETURN_IF_ERROR(AddPin(pin, of_model.pins));
    }
    if (model.pin()) {
      rules.pinned.insert(uri.ToString());
    }
  }
  return rules;
}

absl::StatusOr<std::vector<ConfiguredModels::Model>> ModelList::Placed(
    const v1::Config& config) const {
  ASSIGN_OR_RETURN(cache::Placements placements, PlacementsOf(config, *gpus_));
  std::vector<ConfiguredModels::Model> promises;
  promises.reserve(static_cast<size_t>(config.models_size()));
  for (const v1::ModelConfig& model : config.models()) {
    ConfiguredModels::Model& promise = promises.emplace_back();
    promise.name = model.name();
    ASSIGN_OR_RETURN(promise.uri, Uri::Parse(model.uri()));
    promise.preload = model.preload();
    promise.pin = model.pin();
    for (const std::string& pin : model.sha256()) {
      RETURN_IF_ERROR(AddPin(pin, promise.pins));
    }
    if (const auto placed = placements.find(promise.uri.ToString()); placed != placements.end()) {
      promise.placement = placed->second;
    }
    promise.settings = model.SerializeAsString();
  }
  cache_->SetPlacements(std::move(placements));
  return promises;
}

absl::Status ModelList::Set(const v1::Config& config) {
  std::vector<service::ModelNames::Named> named;
  named.reserve(static_cast<size_t>(config.models_size()));
  for (const v1::ModelConfig& model : config.models()) {
    named.push_back({model.name(), model.uri()});
  }
  ASSIGN_OR_RETURN(Rules rules, RulesIn(config));
  {
    absl::MutexLock lock(&mutex_);
    rules_ = std::make_shared<const Rules>(std::move(rules));
  }
  return names_.Set(named);
}

absl::Status ModelList::Place(const v1::Config& config, cache::Cache* cache,
                              const device::Gpus* gpus) {
  cache_ = cache;
  gpus_ = gpus;
  ASSIGN_OR_RETURN(first_promises_, Placed(config));
  return absl::OkStatus();
}

void ModelList::Keep() {
  promises_ = std::make_unique<ConfiguredModels>(std::move(first_promises_), cache_);
}

absl::Status ModelList::Replace(const v1::Config& config) {
  ASSIGN_OR_RETURN(auto promises, Placed(config));
  RETURN_IF_ERROR(Set(config));
  promises_->Replace(std::move(promises));
  return absl::OkStatus();
}

pipeline::LoadRules ModelList::RulesOf(const Uri& model) const {
  std::shared_ptr<const Rules> rules;
  {
    absl::MutexLock lock(&mutex_);
    rules = rules_;
  }
  const auto found = rules->of_models.find(model.ToString());
  return found == rules->of_models.end() ? rules->by_default : found->second;
}

bool ModelList::Pins(const Uri& model) const {
  absl::MutexLock lock(&mutex_);
  return rules_->pinned.contains(model.ToString());
}

}  // namespace weightd
