// Room for a load: what the budget has left, else what evicting gives.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/cache/bytes_text.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

constexpr absl::Duration kCancellationCheck = absl::Milliseconds(10);

bool WantsRoom(const absl::Status& status) {
  return ReasonOf(status) == Reason::kBudgetExceeded ||
         ReasonOf(status) == Reason::kHostMemoryShort;
}

// How many bytes must come free before the tier can have succeeded, at the least; 0 if enough came
// free since it refused.
uint64_t Shortfall(const host::HostTier& tier, const absl::Status& refusal, uint64_t bytes) {
  if (ReasonOf(refusal) == Reason::kHostMemoryShort) {
    const uint64_t room = tier.options().available_memory().value_or(0);
    return room < bytes ? bytes - room : 0;
  }
  const host::HostUsage usage = tier.usage();
  // More than the budget, where clients hold what an earlier daemon left.
  const uint64_t taken = usage.resident + usage.loading + usage.draining;
  return taken + bytes > usage.budget ? taken + bytes - usage.budget : 0;
}

}  // namespace

absl::StatusOr<host::Reservation> NodeCache::MakeRoom(Load& load, uint64_t bytes) {
  const uint64_t budget = tier_->options().budget;
  if (bytes > budget) {
    return Error(Reason::kBudgetExceeded,
                 absl::StrCat(load.uri.Redacted(), " needs ", BytesText(bytes), " (", bytes,
                              " bytes) of host memory; the whole budget is ", BytesText(budget),
                              " (", budget, " bytes)"),
                 "raise the host budget in the configuration");
  }
  const uint64_t needed = AlignUp(bytes, kPageBytes);
  // In this phase it is for the model itself.
  if (load.progress.phase == pipeline::Phase::kReserving && PlacementOf(load.uri).host) {
    TurnAwayOverQuota(load, needed);
  }
  while (true) {
    RETURN_IF_ERROR(load.cancellation.status());
    const uint64_t returns = MemoryReturns();
    absl::Status refusal;
    {
      absl::MutexLock room(&room_mutex_);
      auto reserved = ReserveOrEvict(needed);
      if (reserved.ok() || !WantsRoom(reserved.status())) {
        return reserved;
      }
      refusal = reserved.status();
    }
    if (!AwaitMemory(load, returns)) {
      return Annotate(NoRoom(needed, refusal), load.uri.Redacted());
    }
  }
}

absl::StatusOr<host::Reservation> NodeCache::ReserveOrEvict(uint64_t bytes) {
  bool tried_again = false;
  while (true) {
    // Asked first: what is freed before the refusal then counts as being freed, not as missing.
    const bool freeing = departures_.Freeing();
    auto reserved = tier_->Reserve(bytes);
    if (reserved.ok() || !WantsRoom(reserved.status())) {
      return reserved;
    }
    const uint64_t shortfall = Shortfall(*tier_, reserved.status(), bytes);
    if (shortfall == 0 && !std::exchange(tried_again, true)) {
      continue;
    }
    if (freeing) {
      return reserved;  // to be waited for: what left already may be enough
    }
    // Promised to other loads, memory that the machine has may still be refused.
    std::vector<Departure> victims = TakeVictims(std::max(shortfall, kPageBytes));
    if (victims.empty()) {
      return reserved;
    }
    departures_.Drop(std::move(victims));
  }
}

std::vector<Departure> NodeCache::TakeVictims(uint64_t bytes) {
  std::vector<Departure> victims;
  absl::MutexLock lock(&mutex_);
  for (const EntryId id : catalog_.PickVictims(bytes)) {
    const Entry& entry = *catalog_.Find(id);
    const Uri uri = entry.uri;
    Publish(EventKind::kEvicted, uri, entry.revision(), entry.model->charged_bytes());
    victims.push_back(Leaves(uri, catalog_.Remove(id)));
  }
  return victims;
}

absl::Status NodeCache::NoRoom(uint64_t bytes, const absl::Status& cause) {
  if (ReasonOf(cause) != Reason::kBudgetExceeded) {
    return cause;
  }
  const host::HostUsage usage = tier_->usage();
  Catalog::Stuck stuck;
  {
    absl::MutexLock lock(&mutex_);
    stuck = catalog_.StuckBytes();
  }
  return Error(
      Reason::kBudgetExceeded,
      absl::StrCat(
          BytesText(bytes), " (", bytes, " bytes) of host memory needed; of the budget of ",
          BytesText(usage.budget), " (", usage.budget, " bytes) ", BytesText(stuck.leased),
          " are leased, ", BytesText(stuck.pinned), " pinned, ", BytesText(stuck.mapped),
          " released but still mapped by clients, ", BytesText(usage.loading), " loading, ",
          BytesText(usage.draining), " draining, and evicting the rest would not be enough"),
      "wait for clients to end, unpin or evict models, or raise the host budget");
}

uint64_t NodeCache::MemoryReturns() {
  absl::MutexLock lock(&mutex_);
  return memory_returns_ + departures_.freed();
}

bool NodeCache::AwaitMemory(const Load& load, uint64_t returns) {
  // Asked first: freeing may end at any moment, and then shows in what came back.
  const bool freeing = departures_.Freeing();
  absl::MutexLock lock(&mutex_);
  if (memory_returns_ + departures_.freed() != returns) {
    return true;
  }
  const bool load_ends = std::any_of(running_.begin(), running_.end(), [&load](const Load* other) {
    return other != &load && other->cancellation.cancelled();
  });
  const auto gone = [this](EntryId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return catalog_.Find(id) == nullptr;
  };
  // What is taken back can be evicted once that has ended.
  if (!load_ends && !freeing && locking_ == 0 && !pin_checks_.HoldAny(gone) &&
      !promotions_.TakesBackAny()) {
    return false;
  }
  memory_returned_.WaitWithTimeout(&mutex_, kCancellationCheck);
  return true;
}

}  // namespace weightd::cache
