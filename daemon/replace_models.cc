// What becomes of promises when another list takes the first one's place.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/gpu_id.h"
#include "daemon/configured_models.h"

namespace weightd {

void ConfiguredModels::Replace(std::vector<Model> models) {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(this, &ConfiguredModels::Replaced));
  replacing_ = std::move(models);
  applying_ = true;
  mutex_.Await(absl::Condition(this, &ConfiguredModels::Replaced));
}

ConfiguredModels::Promises ConfiguredModels::PromisesOf(const std::vector<Model>& models) {
  Promises promises;
  for (const Model& model : models) {
    Promise& promise = promises[model.uri.ToString()];
    if (promise.name.empty()) {
      promise.uri = model.uri;
      promise.name = model.name;
    }
    promise.preload |= model.preload;
    promise.pin |= model.pin;
    promise.pins.insert(model.pins.begin(), model.pins.end());
    promise.placement = model.placement;
    absl::StrAppend(&promise.settings, model.settings.size(), ":", model.settings);
    if (promise.preload) {
      promise.next_try = absl::InfinitePast();
    }
  }
  return promises;
}

const ConfiguredModels::Promise* ConfiguredModels::PromiseOf(const std::string& uri) const {
  absl::MutexLock lock(&mutex_);
  const auto found = promises_.find(uri);
  return found == promises_.end() ? nullptr : &found->second;
}

void ConfiguredModels::Apply(std::vector<Model> models) {
  std::sort(models.begin(), models.end(),
            [](const Model& a, const Model& b) { return a.name < b.name; });
  Promises before = PromisesOf(models);
  std::vector<std::string> begun;
  {
    absl::MutexLock lock(&mutex_);
    models_ = std::move(models);
    before.swap(promises_);
    for (auto& [uri, promise] : promises_) {
      const auto same = before.find(uri);
      if (same != before.end() && same->second.settings == promise.settings) {
        promise = std::move(same->second);
        before.erase(same);
      } else {
        begun.push_back(uri);
      }
    }
  }
  for (auto& [uri, promise] : before) {
    const Promise* const changed = PromiseOf(uri);
    // Bytes that are on their way to what is still the same place, and as the same, keep coming:
    // the try that begins joins them before this one ends.
    if (changed == nullptr || !changed->preload || changed->pins != promise.pins ||
        changed->placement != promise.placement) {
      promise.wait.reset();
    }
    End(promise, changed);
  }
  for (const std::string& uri : begun) {
    const auto same = before.find(uri);
    Begin(*PromiseOf(uri), same == before.end() ? nullptr : &same->second);
  }
  StartDue();
  before.clear();
  absl::MutexLock lock(&mutex_);
  applying_ = false;
}

void ConfiguredModels::End(const Promise& before, const Promise* now) {
  // Where it moves, the pin comes back with what begins.
  if (before.pin && (now == nullptr || !now->pin || now->placement != before.placement)) {
    cache_->PinForConfig(before.uri, false);
  }
  if (before.preload && (now == nullptr || !now->preload)) {
    cache_->LetGo(before.uri);
  }
  // What is refused is leased or pinned by an operator: it stays as it is until it leaves.
  const cache::Placement placement = now == nullptr ? cache::Placement() : now->placement;
  // Copies that were exported otherwise the cache lets go of by itself.
  if (placement.host != before.placement.host) {
    if (cache_->Resident(before.uri).ok()) {
      cache_->Evict(before.uri, /*force=*/false).IgnoreError();
    }
    return;
  }
  for (const GpuId& gpu : before.placement.gpus) {
    if (std::find(placement.gpus.begin(), placement.gpus.end(), gpu) == placement.gpus.end()) {
      cache_->EvictFromGpu(before.uri, gpu, /*force=*/false).IgnoreError();
    }
  }
}

void ConfiguredModels::Begin(const Promise& now, const Promise* before) {
  if (now.preload) {
    return;
  }
  if (now.pin) {
    cache_->PinForConfig(now.uri, true);
  }
  const bool other_pins = before == nullptr || before->pins != now.pins;
  if (!now.pins.empty() && other_pins && cache_->Resident(now.uri).ok()) {
    // Looks at the bytes that are here.
    absl::MutexLock lock(&mutex_);
    promises_.at(now.uri.ToString()).next_try = absl::InfinitePast();
  }
}

}  // namespace weightd
