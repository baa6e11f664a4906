// What clients and operators ask for: models, and what becomes of their leases.

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"
#include "daemon/pipeline/digests.h"

namespace weightd::cache {
namespace {

constexpr size_t kLeastRevisionDigits = 8;
constexpr size_t kRevisionDigits = 64;
constexpr size_t kMostProofs = 1000;

// Gives the interest up when it dies.
class NodeWait final : public Wait {
 public:
  NodeWait(NodeCache* cache, Uri uri, std::shared_ptr<Waiter> waiter)
      : cache_(cache), uri_(std::move(uri)), waiter_(std::move(waiter)) {}

  ~NodeWait() override {
    if (waiter_->Close()) {
      cache_->Leave(uri_, waiter_.get());
    }
  }

 private:
  // Not touched once the waiter is done: it may be gone then.
  NodeCache* const cache_;
  const Uri uri_;
  const std::shared_ptr<Waiter> waiter_;
};

absl::Status CheckRevision(absl::string_view digits) {
  const bool hexadecimal = std::all_of(digits.begin(), digits.end(), [](char c) {
    return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
  });
  if (digits.empty() ||
      (hexadecimal && digits.size() >= kLeastRevisionDigits && digits.size() <= kRevisionDigits)) {
    return absl::OkStatus();
  }
  return Error(Reason::kInvalidArgument, absl::StrCat("\"", digits, "\" names no revision"),
               "give 8 to 64 lower-case hexadecimal digits");
}

bool HasCopies(const Entry& entry, absl::Span<const GpuId> gpus) {
  return std::all_of(gpus.begin(), gpus.end(),
                     [&](const GpuId& gpu) { return entry.CopyOn(gpu) != nullptr; });
}

absl::Status NotResident(const Uri& uri, absl::string_view revision) {
  return Error(Reason::kModelNotResident,
               absl::StrCat(uri.Redacted(), revision.empty() ? "" : " at revision ", revision,
                            " is not resident"),
               "preload it, or acquire it through a listener that may load it");
}

}  // namespace

std::unique_ptr<Wait> NodeCache::Acquire(AcquireRequest request, AcquireCallbacks callbacks) {
  Interest interest;
  interest.waiter =
      std::make_shared<Waiter>(std::move(callbacks.progress), std::move(callbacks.done));
  interest.policy = request.policy;
  interest.holder = std::move(request.holder);
  interest.revision = std::move(request.revision);
  interest.pins = std::move(request.pins);
  interest.may_load = request.may_load;
  interest.request_id = std::move(request.request_id);
  interest.device = request.device;
  if (request.device.has_value() && !request.device->is_private) {
    interest.gpus = {request.device->gpu};
    interest.required_gpus = interest.gpus;
  }
  return Want(request.uri, std::move(interest));
}

std::unique_ptr<Wait> NodeCache::Preload(PreloadRequest request, PreloadCallbacks callbacks) {
  Interest interest;
  interest.waiter =
      std::make_shared<Waiter>(std::move(callbacks.progress),
                               [done = std::move(callbacks.done)](absl::StatusOr<Grant> outcome) {
                                 if (!done) {
                                   return;
                                 }
                                 if (outcome.ok()) {
                                   done(std::move(outcome->model));
                                 } else {
                                   done(std::move(outcome).status());
                                 }
                               });
  interest.policy = request.policy;
  interest.may_load = request.may_load;
  interest.request_id = std::move(request.request_id);
  interest.persistent = request.goes_on;
  interest.urgent = true;
  if (request.pin) {
    interest.pin = request.pinner;
  }
  interest.pins = std::move(request.pins);
  interest.key = std::move(request.key);
  interest.required_gpus = std::move(request.gpus);
  interest.gpus = interest.required_gpus;
  const Placement placement = PlacementOf(request.uri);
  interest.gpus.insert(interest.gpus.end(), placement.gpus.begin(), placement.gpus.end());
  return Want(request.uri, std::move(interest));
}

std::unique_ptr<Wait> NodeCache::Want(const Uri& uri, Interest interest) {
  auto wait = std::make_unique<NodeWait>(this, uri, interest.waiter);
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    absl::Status refusal = CheckRevision(interest.revision);
    if (refusal.ok()) {
      refusal = CheckPlacement(uri, interest);
    }
    if (refusal.ok() && stopping_) {
      refusal = ShuttingDown();
    }
    if (refusal.ok()) {
      refusal = CheckLeases(interest);
    }
    const Entry* entry = catalog_.Find(uri, interest.revision);
    interest.asked = Uptime();
    interest.was_resident = entry != nullptr && HasCopies(*entry, interest.gpus);
    if (refusal.ok() && entry == nullptr && !interest.may_load) {
      refusal = NotResident(uri, interest.revision);
    }
    if (refusal.ok() && entry == nullptr) {
      refusal = CheckQuotaInFlight(uri, interest);
    }
    if (!refusal.ok()) {
      outcomes.push_back({.interest = std::move(interest), .result = refusal});
    } else if (entry == nullptr) {
      Join(uri, std::move(interest), outcomes);
    } else {
      CheckIfDue(*entry);
      Settle(entry->id, std::move(interest), outcomes);
    }
  }
  Tell(std::move(outcomes));
  return wait;
}

Grant NodeCache::GrantOn(EntryId id, const Interest& interest) {
  const absl::Time now = absl::Now();
  const Entry& entry = *catalog_.Find(id);
  Grant grant;
  if (interest.holder.has_value()) {
    SharedCopy segment = SegmentFor(entry, interest);
    const bool copy = segment != nullptr && !segment->is_private();
    catalog_.AddLease(id, interest.holder->listener,
                      copy ? std::optional(segment->gpu()) : std::nullopt, now);
    if (segment != nullptr) {
      grant.device = {.gpu = segment->gpu(),
                      .is_private = segment->is_private(),
                      .bytes = segment->bytes(),
                      .legacy_handle = segment->legacy_handle()};
    }
    grant.lease = leases_.Grant(*interest.holder, id, entry.uri, entry.model, std::move(segment),
                                now, Uptime());
    events_.Publish({.time = now,
                     .kind = EventKind::kLeaseGranted,
                     .uri = entry.uri,
                     .revision = entry.revision(),
                     .lease = grant.lease,
                     .bytes = entry.model->charged_bytes(),
                     .error = {},
                     .took = Uptime() - interest.asked,
                     .listener = interest.holder->listener,
                     .was_resident = interest.was_resident,
                     .request_id = interest.request_id});
    WakeTickerBefore(Uptime() + options_.unclaimed_lease);
  } else {
    catalog_.Touch(id, now);
  }
  if (interest.pin.has_value()) {
    SetPinned(entry, *interest.pin, true);
  }
  grant.model = catalog_.Describe(entry);
  const pipeline::ModelIndex& index = entry.model->index;
  grant.pinned_to_version = index.pinned_to_version;
  if (index.files.size() <= kMostProofs) {
    for (pipeline::Verified& verified : entry.model->digests->verified()) {
      grant.proofs.push_back({index.files[verified.file].name, std::move(verified)});
    }
  }
  return grant;
}

void NodeCache::EndLeases(std::vector<LeaseTable::Ended> ended) {
  const absl::Time now = absl::Now();
  for (LeaseTable::Ended& lease : ended) {
    const Entry* entry = catalog_.Find(lease.entry);
    if (entry != nullptr && lease.copy.has_value() && entry->CopyOn(*lease.copy) == lease.segment) {
      lease.segment.reset();  // not the last one
    } else if (lease.segment != nullptr) {
      DropCopyLater(std::move(lease.segment));
    }
    if (entry == nullptr) {
      continue;
    }
    const Uri uri = entry->uri;
    PublishLeaseEnd(*entry, lease);
    if (Leaver gone = catalog_.EndLease(lease.entry, lease.copy, now)) {
      DropLater(uri, std::move(gone));
    }
  }
}

absl::Status NodeCache::Release(SessionId session, LeaseId lease) {
  absl::MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(LeaseTable::Ended ended, leases_.Release(session, lease));
  std::vector<LeaseTable::Ended> all;
  all.push_back(std::move(ended));
  LeasesEnded(std::move(all));
  return absl::OkStatus();
}

void NodeCache::EndSession(SessionId session) {
  const absl::Status ended = Error(Reason::kSessionInvalid, "the session has ended");
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    LeasesEnded(leases_.EndSession(session));
    std::vector<Uri> left;
    for (auto& [key, flight] : flights_) {
      std::vector<Interest> theirs = flight.Split([session](const Interest& interest) {
        return interest.holder.has_value() && interest.holder->session == session;
      });
      if (!theirs.empty()) {
        left.push_back(flight.load->uri);
      }
      for (Interest& interest : theirs) {
        outcomes.push_back({.interest = std::move(interest), .result = ended});
      }
    }
    for (const Uri& uri : left) {
      GiveUpIfUnwanted(uri, outcomes);
    }
    LeavePromotions(
        [session](const Interest& interest) {
          return interest.holder.has_value() && interest.holder->session == session;
        },
        ended, outcomes);
    pin_checks_.Stop(
        [session](const PinCheck& check) {
          return check.interest.holder.has_value() && check.interest.holder->session == session;
        },
        ended, outcomes);
  }
  Tell(std::move(outcomes));
}

absl::StatusOr<std::vector<ClaimedHandle>> NodeCache::Claim(SessionId session, LeaseId lease) {
  ASSIGN_OR_RETURN(const LeaseTable::Held held, leases_.Find(session, lease));
  std::vector<ClaimedHandle> handles;
  ASSIGN_OR_RETURN(Fd index, held.model->encoded_index->OpenForClient(held.listener));
  Fd small_files;
  if (held.model->small_files != nullptr) {
    ASSIGN_OR_RETURN(small_files, held.model->small_files->OpenForClient(held.listener));
  }
  // Last: a private copy can be taken only once.
  if (held.segment == nullptr) {
    ASSIGN_OR_RETURN(Fd weights, held.model->weights->OpenForClient(held.listener));
    handles.push_back(
        {ClaimedHandle::Kind::kHostSegment, std::move(weights), held.model->index.segment_bytes});
  } else if (held.segment->handles() == device::Handles::kDescriptor) {
    ASSIGN_OR_RETURN(Fd copy, held.segment->OpenForClient());
    handles.push_back(
        {ClaimedHandle::Kind::kDeviceSegment, std::move(copy), held.segment->bytes()});
  }
  handles.push_back(
      {ClaimedHandle::Kind::kTensorIndex, std::move(index), held.model->encoded_index_bytes});
  if (small_files.valid()) {
    handles.push_back(
        {ClaimedHandle::Kind::kSmallFiles, std::move(small_files), held.model->small_file_bytes});
  }
  // It may have ended meanwhile; then the descriptors are closed again.
  RETURN_IF_ERROR(leases_.MarkClaimed(session, lease));
  return handles;
}

void NodeCache::Tell(Outcomes outcomes) {
  for (Outcome& outcome : outcomes) {
    const LeaseId lease = outcome.result.ok() ? outcome.result->lease : LeaseId();
    const bool told = outcome.interest.waiter->TellDone(std::move(outcome.result));
    if (!told && lease != LeaseId()) {
      // Whoever wanted it left while it was granted. It may have ended with its session already.
      Release(outcome.interest.holder->session, lease).IgnoreError();
    }
  }
}

}  // namespace weightd::cache
