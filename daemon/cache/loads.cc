// What a load's thread does: resolve, load, hand the outcome to whoever waits.

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

// News are everybody's: what one listener is denied keeps them from nobody else.
source::ReadPolicy NewsPolicy(source::ReadPolicy policy) {
  policy.denied = nullptr;
  return policy;
}

}  // namespace

void NodeCache::RunLoad(Load& load) {
  std::optional<pipeline::ModelKey> key;
  {
    absl::MutexLock lock(&mutex_);
    const Flight* flight = FlightOf(load);
    if (flight == nullptr || !running_.insert(&load).second) {
      return;
    }
    key = flight->key;
  }
  absl::Status status = Attempt(load, key);
  if (ReasonOf(status) == Reason::kSourceChanged) {
    // The writer may just have been busy: once more, on the revision that is there now.
    load.progress.bytes_done = 0;
    load.progress.bytes_total = 0;
    status = Attempt(load, key);
    if (ReasonOf(status) == Reason::kSourceChanged) {
      status = Error(Reason::kSourceChanged,
                     absl::StrCat(load.uri.Redacted(), " keeps changing: ", status.message()),
                     "load it when nobody writes to it");
    }
  }
  key.reset();
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    running_.erase(&load);
    ++memory_returns_;
    memory_returned_.SignalAll();
    if (status == source::NotAllowed() && FlightOf(load) != nullptr) {
      // What its listener is denied says nothing of the model.
      Crash(load, status, outcomes);
    } else if (!status.ok() && FlightOf(load) != nullptr) {
      catalog_.NoteFailure(load.uri, status.message());
      Record* record = catalog_.FindRecord(load.uri);
      const Entry* current = catalog_.Find(record->current);
      // A source that says the same as before is asked well enough: something else failed.
      const bool news = current != nullptr && FlightOf(load)->revision != current->revision();
      if (news && !std::exchange(record->stale, true)) {
        Publish(EventKind::kStale, load.uri, current->revision(), current->model->charged_bytes(),
                status);
      }
      SettleWithout(load, status, outcomes);
      Crash(load, status, outcomes);
    }
  }
  Tell(std::move(outcomes));
}

absl::Status NodeCache::Attempt(Load& load, const std::optional<pipeline::ModelKey>& key) {
  load.progress.phase = pipeline::Phase::kResolving;
  ASSIGN_OR_RETURN(const pipeline::ResolvedModel resolved,
                   loader_->Resolve(load.uri, load.policy, {}, load.cancellation));
  if (ArriveIfResident(load, resolved)) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(load.cancellation.status());
  ASSIGN_OR_RETURN(const pipeline::Destinations destinations, DestinationsOf(load));
  const pipeline::VerifyPolicy verify = options_.verify_of(load.uri);
  ASSIGN_OR_RETURN(pipeline::ResidentModel loaded,
                   loader_->Load(
                       resolved, load.policy, key,
                       [this, &load](uint64_t bytes) { return MakeRoom(load, bytes); },
                       destinations, load.progress, load.cancellation));
  LoadedCopies copies = {.segments = std::move(loaded.copies),
                         .failures = std::move(loaded.copy_failures)};
  Loaded kept = Keep(std::move(loaded), NewsPolicy(load.policy), verify, copies.segments);

  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    if (FlightOf(load) == nullptr) {
      return load.cancellation.status();
    }
    running_.erase(&load);
    Land(load, std::move(kept), std::move(copies), outcomes);
  }
  Tell(std::move(outcomes));
  return absl::OkStatus();
}

bool NodeCache::ArriveIfResident(Load& load, const pipeline::ResolvedModel& resolved) {
  Outcomes outcomes;
  bool resident = false;
  {
    absl::MutexLock lock(&mutex_);
    Flight* flight = FlightOf(load);
    if (flight == nullptr) {
      return false;
    }
    flight->revision = resolved.revision;
    flight->file_count = static_cast<uint32_t>(resolved.files.size());
    const Entry* entry = catalog_.Find(load.uri, resolved.revision.hex());
    // A model that is only on GPUs may be wanted on another one, too.
    resident = entry != nullptr && (entry->on_host() || IsWhereWanted(*entry, *flight));
    if (resident) {
      running_.erase(&load);
      BecomeCurrent(entry->id);
      Arrive(load, entry->id, outcomes);
    } else {
      TurnAwayOthers(*flight, resolved, outcomes);
      GiveUpIfUnwanted(load.uri, outcomes);
    }
  }
  Tell(std::move(outcomes));
  return resident;
}

void NodeCache::Land(const Load& load, Loaded loaded, LoadedCopies copies, Outcomes& outcomes) {
  const pipeline::ModelIndex& index = loaded.model->index;
  PublishLoad(EventKind::kLoadFinished, load, index.revision, loaded.model->charged_bytes());
  const Entry* same = catalog_.Find(load.uri, index.revision.hex());
  const EntryId id = same != nullptr
                         ? same->id
                         : catalog_.Add(load.uri, NewsPolicy(load.policy), std::move(loaded.model),
                                        loaded.at, std::move(loaded.shelved));
  BecomeCurrent(id);
  for (SharedCopy& segment : copies.segments) {
    const GpuId gpu = segment->gpu();
    if (const absl::Status usable = CheckArrival(load.uri, *segment); usable.ok()) {
      CopyArrived(id, std::move(segment));
    } else {
      DropCopyLater(std::move(segment));
      copies.failures.emplace_back(gpu, usable);
    }
  }
  NoteFailedCopies(*catalog_.Find(id), copies.failures, *FlightOf(load), outcomes);
  Arrive(load, id, outcomes);
}

void NodeCache::BecomeCurrent(EntryId id) {
  const Uri uri = catalog_.Find(id)->uri;
  const Entry* previous = catalog_.Find(uri);
  if (previous != nullptr && previous->id != id) {
    Publish(EventKind::kSuperseded, uri, previous->revision(), previous->model->charged_bytes());
  }
  if (Leaver unleased = catalog_.MakeCurrent(id, Uptime())) {
    DropLater(uri, std::move(unleased));
  }
}

}  // namespace weightd::cache
