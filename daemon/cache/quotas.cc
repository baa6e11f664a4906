// What the clients of a listener hold in host memory, and may. A lease on a GPU copy counts as one
// on the host's bytes, which it keeps there.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/bytes_text.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

absl::Status OverQuota(const Uri& uri, uint64_t bytes, absl::string_view listener,
                       const HeldBytes& held, uint64_t coming) {
  const auto exact = [](uint64_t count) {
    return absl::StrCat(BytesText(count), " (", count, " bytes)");
  };
  const bool ever = bytes <= *held.quota;
  return Error(
      Reason::kQuotaExceeded,
      absl::StrCat(uri.Redacted(), " needs ", exact(bytes), "; of the ", exact(*held.quota),
                   " that clients of listener ", listener, " may hold they lease ",
                   BytesText(held.leased), ", map ", BytesText(held.draining),
                   " that they let go of, and wait for ", BytesText(coming)),
      ever
          ? absl::StrCat("release models that this listener's clients hold, or ask the operator to "
                         "raise max_bytes of listener ",
                         listener)
          : absl::StrCat("ask the operator to raise max_bytes of listener ", listener));
}

bool AskKernel(const host::HostSegment& segment) { return segment.HeldByOthers(); }

}  // namespace

HeldBytes NodeCache::HeldLocked(absl::string_view listener, EntryId but,
                                HeldByOthers held_by_others) const {
  HeldBytes held;
  const auto quota = options_.quotas.find(listener);
  if (quota != options_.quotas.end()) {
    held.quota = quota->second;
  }
  held.leased = leases_.LeasedBytes(listener);
  for (const Entry* entry : catalog_.LetGoOf(listener, but)) {
    if (held_by_others(*entry->model->weights)) {
      held.draining += entry->model->charged_bytes();
    }
  }
  for (const host::DrainingSegment& segment : tier_->draining()) {
    if (std::binary_search(segment.holders.begin(), segment.holders.end(), listener)) {
      held.draining += segment.bytes;
    }
  }
  return held;
}

HeldBytes NodeCache::HeldBy(absl::string_view listener) const {
  absl::MutexLock lock(&mutex_);
  return HeldLocked(listener, EntryId(), AskKernel);
}

uint64_t NodeCache::ComingTo(absl::string_view listener, const Flight* own) const {
  uint64_t bytes = 0;
  for (const auto& [uri, flight] : flights_) {
    const bool theirs =
        std::any_of(flight.interests.begin(), flight.interests.end(), [&](const Interest& other) {
          return other.holder.has_value() && other.holder->listener == listener;
        });
    bytes += theirs && &flight != own ? flight.host_bytes : 0;
  }
  return bytes;
}

absl::Status NodeCache::CheckQuota(const Interest& interest, const Uri& uri, uint64_t bytes,
                                   EntryId but, const Flight* own) const {
  if (!interest.holder.has_value() || !options_.quotas.contains(interest.holder->listener)) {
    return absl::OkStatus();
  }
  const std::string& listener = interest.holder->listener;
  // What comes counts against what is to come, not against what is here.
  const uint64_t coming = own == nullptr ? 0 : ComingTo(listener, own);
  const auto fits = [&](const HeldBytes& held) {
    return held.leased + held.draining + coming + bytes <= *held.quota;
  };
  if (fits(HeldLocked(listener, but, [](const host::HostSegment&) { return true; }))) {
    return absl::OkStatus();
  }
  // Only where it decides: each model is a question of its own to the kernel.
  const HeldBytes held = HeldLocked(listener, but, AskKernel);
  if (fits(held)) {
    return absl::OkStatus();
  }
  return OverQuota(uri, bytes, listener, held, coming);
}

absl::Status NodeCache::CheckQuota(const Interest& interest, const Entry& entry) const {
  if (interest.holder.has_value() && leases_.Leases(interest.holder->listener, entry.id)) {
    return absl::OkStatus();
  }
  return CheckQuota(interest, entry.uri, entry.model->charged_bytes(), entry.id, nullptr);
}

absl::Status NodeCache::CheckLeases(const Interest& interest) const {
  return interest.holder.has_value() ? leases_.CheckRoom(interest.holder->session)
                                     : absl::OkStatus();
}

absl::Status NodeCache::CheckQuotaInFlight(const Uri& uri, const Interest& interest) const {
  const auto flight = flights_.find(uri.ToString());
  if (flight == flights_.end() || flight->second.host_bytes == 0) {
    return absl::OkStatus();
  }
  return CheckQuota(interest, uri, flight->second.host_bytes, EntryId(), &flight->second);
}

void NodeCache::TurnAwayOverQuota(Load& load, uint64_t bytes) {
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    Flight* flight = FlightOf(load);
    if (flight == nullptr) {
      return;
    }
    flight->host_bytes = bytes;
    std::vector<Interest> staying;
    for (Interest& interest : std::exchange(flight->interests, {})) {
      absl::Status quota = CheckQuota(interest, load.uri, bytes, EntryId(), flight);
      if (quota.ok()) {
        staying.push_back(std::move(interest));
      } else {
        outcomes.push_back({.interest = std::move(interest), .result = std::move(quota)});
      }
    }
    flight->interests = std::move(staying);
    flight->TellIfAwaited();
    GiveUpIfUnwanted(load.uri, outcomes);
  }
  Tell(std::move(outcomes));
}

}  // namespace weightd::cache
