#ifndef WEIGHTD_DAEMON_CACHE_PROMOTION_H_
#define WEIGHTD_DAEMON_CACHE_PROMOTION_H_

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/cancellation.h"
#include "common/gpu_id.h"
#include "daemon/cache/eviction.h"
#include "daemon/cache/flight.h"
#include "daemon/cache/left_copy.h"

namespace weightd::cache {

// A copy that is being made on a GPU of what is resident: one for all who want it there, or a
// private one for somebody; or one that an earlier daemon left, on its way to be granted again.
struct Promotion {
  EntryId entry;
  GpuId gpu;
  bool is_private = false;
  Cancellation cancellation;
  // Guarded by the cache's lock, as the list of promotions is. At least one, until it is stopped,
  // unless it is of what was left.
  std::vector<Interest> interests;
  // It isn't made, but taken back from an earlier daemon.
  std::optional<LeftCopy> left = {};
};

// The promotions that wait for their turn or run. Each holds its entry in the catalog; whoever
// takes one out lets go of it. Not thread-safe.
class Promotions {
 public:
  using Shared = std::shared_ptr<Promotion>;

  void Add(Shared promotion) { promotions_.push_back(std::move(promotion)); }
  // Null if there is none that others may join.
  Shared Find(EntryId entry, const GpuId& gpu) const {
    const auto found =
        std::find_if(promotions_.begin(), promotions_.end(), [&](const Shared& promotion) {
          return promotion->entry == entry && promotion->gpu == gpu && !promotion->is_private;
        });
    return found == promotions_.end() ? nullptr : *found;
  }
  // Whether a copy that an earlier daemon left there is on its way.
  bool TakesBack(EntryId entry, const GpuId& gpu) const {
    const Shared promotion = Find(entry, gpu);
    return promotion != nullptr && promotion->left.has_value();
  }
  // Whether any copy is.
  bool TakesBackAny() const {
    return std::any_of(promotions_.begin(), promotions_.end(),
                       [](const Shared& promotion) { return promotion->left.has_value(); });
  }
  // Whose copies there are on their way so.
  std::vector<EntryId> TakenBackOn(const GpuId& gpu) const {
    std::vector<EntryId> entries;
    for (const Shared& promotion : promotions_) {
      if (promotion->gpu == gpu && promotion->left.has_value()) {
        entries.push_back(promotion->entry);
      }
    }
    return entries;
  }
  // For one that has run. False if it was stopped meanwhile.
  bool Take(const Shared& promotion) { return std::erase(promotions_, promotion) > 0; }

  // Takes out those for whom `stops` holds and cancels them.
  std::vector<Shared> Stop(absl::FunctionRef<bool(const Promotion&)> stops,
                           const absl::Status& reason) {
    const auto stopped =
        std::partition(promotions_.begin(), promotions_.end(),
                       [&](const Shared& promotion) { return !stops(*promotion); });
    std::vector<Shared> out(stopped, promotions_.end());
    promotions_.erase(stopped, promotions_.end());
    for (const Shared& promotion : out) {
      promotion->cancellation.Cancel(reason);
    }
    return out;
  }
  // Takes out the interests for whom `leaves` holds.
  std::vector<Interest> Split(absl::FunctionRef<bool(const Interest&)> leaves) {
    std::vector<Interest> leaving;
    for (const Shared& promotion : promotions_) {
      for (Interest& interest : cache::Split(promotion->interests, leaves)) {
        leaving.push_back(std::move(interest));
      }
    }
    return leaving;
  }

 private:
  std::vector<Shared> promotions_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_PROMOTION_H_
