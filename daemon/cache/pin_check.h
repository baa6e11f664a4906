#ifndef WEIGHTD_DAEMON_CACHE_PIN_CHECK_H_
#define WEIGHTD_DAEMON_CACHE_PIN_CHECK_H_

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/cancellation.h"
#include "common/pins.h"
#include "common/uri.h"
#include "daemon/cache/eviction.h"
#include "daemon/cache/flight.h"
#include "daemon/pipeline/model.h"

namespace weightd::cache {

// Somebody who waits until the pinned files of a resident model are hashed.
struct PinCheck {
  EntryId entry;
  Uri uri;
  // A check that waits for its turn keeps no memory from those who need room.
  std::weak_ptr<const pipeline::ResidentModel> model;
  Pins pins;
  Cancellation cancellation;
  // Guarded by the cache's lock, as the list of checks is.
  Interest interest;
  bool running = false;
};

// The checks that wait for their turn or run. Not thread-safe.
class PinChecks {
 public:
  void Add(std::shared_ptr<PinCheck> check) { checks_.push_back(std::move(check)); }

  // For a check that has run: who waited for it, or nobody if it was stopped meanwhile.
  std::optional<Interest> Take(const std::shared_ptr<PinCheck>& check) {
    const auto found = std::find(checks_.begin(), checks_.end(), check);
    if (found == checks_.end()) {
      --ending_;
      return std::nullopt;
    }
    checks_.erase(found);
    return std::move(check->interest);
  }

  // Stops those for whom `stops` holds; they get `reason`.
  void Stop(absl::FunctionRef<bool(const PinCheck&)> stops, const absl::Status& reason,
            Outcomes& outcomes) {
    const auto stopped =
        std::partition(checks_.begin(), checks_.end(),
                       [&](const std::shared_ptr<PinCheck>& check) { return !stops(*check); });
    for (auto check = stopped; check != checks_.end(); ++check) {
      (*check)->cancellation.Cancel(reason);
      ending_ += (*check)->running ? 1 : 0;
      outcomes.push_back({.interest = std::move((*check)->interest), .result = reason});
    }
    checks_.erase(stopped, checks_.end());
  }

  // Whether one still holds a model though it was stopped, or for which `gone` holds.
  bool HoldAny(absl::FunctionRef<bool(EntryId)> gone) const {
    return ending_ > 0 ||
           std::any_of(checks_.begin(), checks_.end(), [&](const std::shared_ptr<PinCheck>& check) {
             return check->running && gone(check->entry);
           });
  }

 private:
  std::vector<std::shared_ptr<PinCheck>> checks_;
  // Stopped ones that still hold a model.
  size_t ending_ = 0;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_PIN_CHECK_H_
