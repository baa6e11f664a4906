// Single flight: who wants which load, and how it ends for them.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"
#include "daemon/pipeline/digests.h"

namespace weightd::cache {
namespace {

absl::Status NobodyWaits(const Uri& uri) {
  return Error(Reason::kCancelled,
               absl::StrCat("the load of ", uri.Redacted(), " was given up: nobody waits for it"));
}

absl::Status OtherRevision(const Uri& uri, absl::string_view wanted, const RevisionId& found) {
  return Error(Reason::kModelNotFound,
               absl::StrCat(uri.Redacted(), " is at revision ", found.hex().substr(0, 12),
                            " now, not at ", wanted),
               "ask for the current revision");
}

}  // namespace

void NodeCache::Join(const Uri& uri, Interest interest, Outcomes& outcomes) {
  const auto found = flights_.find(uri.ToString());
  if (found == flights_.end()) {
    std::vector<Interest> interests;
    interests.push_back(std::move(interest));
    Start(uri, std::move(interests), outcomes);
    return;
  }
  AwaitTurn(found->second, interest);
  found->second.interests.push_back(std::move(interest));
  found->second.TellIfAwaited();
}

void NodeCache::Start(const Uri& uri, std::vector<Interest> interests, Outcomes& outcomes) {
  if (loads_stopped_) {
    for (Interest& interest : interests) {
      outcomes.push_back({.interest = std::move(interest), .result = LoadsStoppedFor(uri)});
    }
    return;
  }
  Flight flight;
  const Interest& first = interests.front();
  flight.load = std::make_shared<Load>(uri, first.policy, first.request_id, first.holder);
  flight.key = first.key;
  for (Interest& interest : interests) {
    AwaitTurn(flight, interest);
    flight.interests.push_back(std::move(interest));
  }
  flight.TellIfAwaited();
  const auto [started, is_new] = flights_.emplace(uri.ToString(), std::move(flight));
  PublishLoad(EventKind::kLoadStarted, *started->second.load, RevisionId());
  WakeTickerBefore(-absl::InfiniteDuration());
}

Workers& NodeCache::TurnsOf(const Interest& interest) {
  return interest.urgent ? urgent_loads_ : interest.persistent ? news_loads_ : loads_;
}

void NodeCache::AwaitTurn(const Flight& flight, const Interest& interest) {
  Workers& turns = TurnsOf(interest);
  const bool waits_there =
      std::any_of(flight.interests.begin(), flight.interests.end(),
                  [&](const Interest& other) { return &TurnsOf(other) == &turns; });
  if (!waits_there && !running_.contains(flight.load.get())) {
    turns.Run([this, load = flight.load] { RunLoad(*load); });
  }
}

Flight* NodeCache::FlightOf(const Load& load) {
  const auto found = flights_.find(load.uri.ToString());
  return found != flights_.end() && found->second.load.get() == &load ? &found->second : nullptr;
}

void NodeCache::Arrive(const Load& load, EntryId id, Outcomes& outcomes) {
  const Entry& entry = *catalog_.Find(id);
  auto flight = flights_.extract(load.uri.ToString());
  for (Interest& interest : flight.mapped().interests) {
    if (MatchesRevision(entry.revision(), interest.revision)) {
      Settle(id, std::move(interest), outcomes);
    } else {
      absl::Status error = OtherRevision(load.uri, interest.revision, entry.revision());
      outcomes.push_back({.interest = std::move(interest), .result = std::move(error)});
    }
  }
}

void NodeCache::TurnAwayOthers(Flight& flight, const pipeline::ResolvedModel& coming,
                               Outcomes& outcomes) {
  std::vector<Interest> others = flight.Split([&flight](const Interest& interest) {
    return !MatchesRevision(flight.revision, interest.revision);
  });
  for (Interest& interest : others) {
    absl::Status error = OtherRevision(flight.load->uri, interest.revision, flight.revision);
    outcomes.push_back({.interest = std::move(interest), .result = std::move(error)});
  }
  std::vector<Interest> denied = flight.Split([&coming](const Interest& interest) {
    return !pipeline::CheckFiles(coming, interest.policy).ok();
  });
  for (Interest& interest : denied) {
    absl::Status error = pipeline::CheckFiles(coming, interest.policy);
    outcomes.push_back({.interest = std::move(interest), .result = std::move(error)});
  }
  std::vector<Interest> pinners = flight.Split([&coming](const Interest& interest) {
    return !pipeline::MatchPins(interest.pins, coming.files).ok();
  });
  for (Interest& interest : pinners) {
    absl::Status error = pipeline::MatchPins(interest.pins, coming.files).status();
    outcomes.push_back({.interest = std::move(interest), .result = std::move(error)});
  }
  flight.TellIfAwaited();
}

void NodeCache::Crash(const Load& load, const absl::Status& error, Outcomes& outcomes) {
  auto extracted = flights_.extract(load.uri.ToString());
  Flight& flight = extracted.mapped();
  PublishLoad(EventKind::kLoadFailed, load, flight.revision, 0, error);
  std::vector<Interest> riders =
      flight.Split([&flight](const Interest& interest) { return flight.Carries(interest); });
  for (Interest& interest : riders) {
    outcomes.push_back({.interest = std::move(interest), .result = error});
  }
  if (!flight.interests.empty()) {
    Start(load.uri, std::move(flight.interests), outcomes);
  }
}

void NodeCache::Abort(const Uri& uri, const absl::Status& reason, Outcomes& outcomes) {
  auto extracted = flights_.extract(uri.ToString());
  if (extracted.empty()) {
    return;
  }
  Flight& flight = extracted.mapped();
  flight.load->cancellation.Cancel(reason);
  PublishLoad(EventKind::kLoadFailed, *flight.load, flight.revision, 0, reason);
  for (Interest& interest : flight.interests) {
    outcomes.push_back({.interest = std::move(interest), .result = reason});
  }
}

void NodeCache::GiveUpIfUnwanted(const Uri& uri, Outcomes& outcomes) {
  const auto found = flights_.find(uri.ToString());
  if (found == flights_.end() || found->second.Wanted()) {
    return;
  }
  const std::shared_ptr<Load> load = found->second.load;
  load->cancellation.Cancel(NobodyWaits(uri));
  Crash(*load, load->cancellation.status(), outcomes);
}

void NodeCache::Leave(const Uri& uri, const Waiter* waiter) {
  // Dies without the lock.
  Interest left;
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    left = TakeInterest(uri, waiter, outcomes);
  }
  Tell(std::move(outcomes));
}

Interest NodeCache::TakeInterest(const Uri& uri, const Waiter* waiter, Outcomes& outcomes) {
  LeavePromotions(
      [waiter](const Interest& interest) {
        return interest.waiter.get() == waiter && !interest.persistent;
      },
      NobodyWaits(uri), outcomes);
  pin_checks_.Stop(
      [waiter](const PinCheck& check) {
        return check.interest.waiter.get() == waiter && !check.interest.persistent;
      },
      NobodyWaits(uri), outcomes);
  const auto found = flights_.find(uri.ToString());
  if (found == flights_.end()) {
    return {};
  }
  std::vector<Interest>& interests = found->second.interests;
  const auto mine =
      std::find_if(interests.begin(), interests.end(),
                   [waiter](const Interest& interest) { return interest.waiter.get() == waiter; });
  if (mine == interests.end() || mine->persistent) {
    return {};
  }
  Interest left = std::move(*mine);
  interests.erase(mine);
  found->second.TellIfAwaited();
  GiveUpIfUnwanted(uri, outcomes);
  return left;
}

ModelSnapshot NodeCache::Describe(const Flight& flight) const {
  const pipeline::Progress& progress = flight.load->progress;
  ModelSnapshot snapshot;
  snapshot.uri = flight.load->uri;
  snapshot.state = ModelState::kLoading;
  snapshot.revision = flight.revision;
  snapshot.file_count = flight.file_count;
  snapshot.progress = {.phase = progress.phase,
                       .bytes_done = progress.bytes_done,
                       .bytes_total = progress.bytes_total};
  return snapshot;
}

}  // namespace weightd::cache
