#ifndef WEIGHTD_DAEMON_CACHE_LOADED_H_
#define WEIGHTD_DAEMON_CACHE_LOADED_H_

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"
#include "daemon/cache/catalog.h"
#include "daemon/cache/shelf.h"

namespace weightd::cache {

// A copy that a load could not make.
using CopyFailure = std::pair<GpuId, absl::Status>;

// What a load made in host memory, or of it.
struct Loaded {
  SharedModel model;
  // None if it isn't kept for the next daemon.
  Shelf::Shelved shelved;
  absl::Time at;
};

// What a load made on GPUs.
struct LoadedCopies {
  std::vector<SharedCopy> segments;
  std::vector<CopyFailure> failures;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_LOADED_H_
