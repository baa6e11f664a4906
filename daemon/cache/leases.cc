#include "daemon/cache/leases.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::cache {
namespace {

absl::Status Unknown(LeaseId lease) {
  return Error(Reason::kLeaseUnknown, absl::StrCat("this session holds no lease ", lease.value()),
               "a lease ends with its release, with its session, when nobody claims it in time, or "
               "when an operator evicts the model by force: acquire the model again");
}

// A private segment is no copy of its entry's.
std::optional<GpuId> CopyOf(const std::shared_ptr<device::Segment>& segment) {
  return segment == nullptr || segment->is_private() ? std::nullopt : std::optional(segment->gpu());
}

}  // namespace

absl::Status LeaseTable::CheckRoom(SessionId session) const {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(session);
  if (found == sessions_.end() || found->second.size() < kMostOfSession) {
    return absl::OkStatus();
  }
  return Error(Reason::kTooManyRequests,
               absl::StrCat("this session holds ", kMostOfSession, " leases, as many as it may"),
               "release leases first; one lease of a model serves the whole process");
}

LeaseId LeaseTable::Grant(const Holder& holder, EntryId entry, const Uri& uri,
                          std::shared_ptr<const pipeline::ResidentModel> model,
                          std::shared_ptr<device::Segment> segment, absl::Time now,
                          absl::Duration uptime) {
  absl::MutexLock lock(&mutex_);
  const LeaseId id(++last_id_);
  Lease lease;
  lease.session = holder.session;
  lease.entry = entry;
  lease.snapshot = {.id = id,
                    .uri = uri,
                    .revision = model->index.revision,
                    .listener = holder.listener,
                    .uid = holder.uid,
                    .granted_at = now,
                    .claimed = false,
                    .gpu = segment == nullptr ? std::nullopt : std::optional(segment->gpu())};
  lease.model = std::move(model);
  lease.segment = std::move(segment);
  Count(lease);
  leases_.emplace_hint(leases_.end(), id, std::move(lease));
  sessions_[holder.session].insert(id);
  entries_[entry].insert(id);
  unclaimed_.emplace_back(uptime, id);
  return id;
}

void LeaseTable::Count(const Lease& lease) {
  Holding& holding = holdings_[lease.snapshot.listener];
  if (++holding.leases[lease.entry] == 1) {
    holding.bytes += lease.model->charged_bytes();
  }
}

void LeaseTable::Uncount(const Lease& lease) {
  const auto holding = holdings_.find(lease.snapshot.listener);
  const auto leases = holding->second.leases.find(lease.entry);
  if (--leases->second > 0) {
    return;
  }
  holding->second.bytes -= lease.model->charged_bytes();
  holding->second.leases.erase(leases);
  if (holding->second.leases.empty()) {
    holdings_.erase(holding);
  }
}

LeaseTable::Ended LeaseTable::Erase(absl::btree_map<LeaseId, Lease>::iterator lease) {
  if (lease->second.model != nullptr) {
    Uncount(lease->second);
  }
  auto [id, ended] = std::move(*lease);
  const auto session = sessions_.find(ended.session);
  session->second.erase(id);
  if (session->second.empty()) {
    sessions_.erase(session);
  }
  const auto entry = entries_.find(ended.entry);
  if (entry != entries_.end()) {
    entry->second.erase(id);
    if (entry->second.empty()) {
      entries_.erase(entry);
    }
  }
  leases_.erase(lease);
  return {.lease = id,
          .entry = ended.model == nullptr ? EntryId() : ended.entry,
          .copy = CopyOf(ended.segment),
          .segment = std::move(ended.segment),
          .listener = std::move(ended.snapshot.listener)};
}

absl::StatusOr<LeaseTable::Ended> LeaseTable::Release(SessionId session, LeaseId lease) {
  absl::MutexLock lock(&mutex_);
  const auto found = leases_.find(lease);
  if (found == leases_.end() || found->second.session != session) {
    return Unknown(lease);
  }
  return Erase(found);
}

std::vector<LeaseTable::Ended> LeaseTable::EndSession(SessionId session) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) {
    return {};
  }
  const absl::btree_set<LeaseId> ids = found->second;
  std::vector<Ended> ended;
  for (const LeaseId id : ids) {
    ended.push_back(Erase(leases_.find(id)));
  }
  return ended;
}

std::vector<LeaseTable::Ended> LeaseTable::ExpireUnclaimed(absl::Duration latest) {
  absl::MutexLock lock(&mutex_);
  std::vector<Ended> ended;
  for (; !unclaimed_.empty() && unclaimed_.front().first <= latest; unclaimed_.pop_front()) {
    const auto lease = leases_.find(unclaimed_.front().second);
    if (lease != leases_.end() && !lease->second.snapshot.claimed &&
        lease->second.model != nullptr) {
      ended.push_back(Erase(lease));
    }
  }
  return ended;
}

std::vector<LeaseTable::Ended> LeaseTable::Revoke(EntryId entry, const std::optional<GpuId>& gpu) {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(entry);
  if (found == entries_.end()) {
    return {};
  }
  std::vector<Ended> ended;
  absl::btree_set<LeaseId> staying;
  for (const LeaseId id : found->second) {
    Lease& lease = leases_.at(id);
    if (gpu.has_value() && CopyOf(lease.segment) != gpu) {
      staying.insert(id);
      continue;
    }
    Uncount(lease);
    lease.model = nullptr;
    ended.push_back({.lease = id,
                     .entry = entry,
                     .copy = CopyOf(lease.segment),
                     .listener = lease.snapshot.listener});
    if (lease.segment != nullptr && !(lease.snapshot.claimed && ended.back().copy.has_value())) {
      ended.back().segment = std::move(lease.segment);  // which no client has
    }
  }
  if (staying.empty()) {
    entries_.erase(found);
  } else {
    found->second = std::move(staying);
  }
  return ended;
}

std::vector<LeaseTable::Ended> LeaseTable::RevokePrivateOn(const GpuId& gpu) {
  absl::MutexLock lock(&mutex_);
  std::vector<Ended> ended;
  for (auto& [id, lease] : leases_) {
    if (lease.model == nullptr || lease.segment == nullptr || !lease.segment->is_private() ||
        lease.segment->gpu() != gpu) {
      continue;
    }
    Uncount(lease);
    lease.model = nullptr;
    ended.push_back({.lease = id,
                     .entry = lease.entry,
                     .segment = std::move(lease.segment),
                     .listener = lease.snapshot.listener});
    const auto entry = entries_.find(lease.entry);
    entry->second.erase(id);
    if (entry->second.empty()) {
      entries_.erase(entry);
    }
  }
  return ended;
}

absl::StatusOr<LeaseTable::Held> LeaseTable::Find(SessionId session, LeaseId lease) const {
  absl::MutexLock lock(&mutex_);
  const auto found = leases_.find(lease);
  if (found == leases_.end() || found->second.session != session ||
      found->second.model == nullptr) {
    return Unknown(lease);
  }
  return Held{.model = found->second.model,
              .segment = found->second.segment,
              .listener = found->second.snapshot.listener};
}

absl::Status LeaseTable::MarkClaimed(SessionId session, LeaseId lease) {
  absl::MutexLock lock(&mutex_);
  const auto found = leases_.find(lease);
  if (found == leases_.end() || found->second.session != session ||
      found->second.model == nullptr) {
    return Unknown(lease);
  }
  found->second.snapshot.claimed = true;
  return absl::OkStatus();
}

absl::Duration LeaseTable::OldestUnclaimed() const {
  absl::MutexLock lock(&mutex_);
  return unclaimed_.empty() ? absl::InfiniteDuration() : unclaimed_.front().first;
}

uint64_t LeaseTable::LeasedBytes(absl::string_view listener) const {
  absl::MutexLock lock(&mutex_);
  const auto holding = holdings_.find(listener);
  return holding == holdings_.end() ? 0 : holding->second.bytes;
}

bool LeaseTable::Leases(absl::string_view listener, EntryId entry) const {
  absl::MutexLock lock(&mutex_);
  const auto holding = holdings_.find(listener);
  return holding != holdings_.end() && holding->second.leases.contains(entry);
}

std::vector<LeaseSnapshot> LeaseTable::Snapshots() const {
  absl::MutexLock lock(&mutex_);
  std::vector<LeaseSnapshot> snapshots;
  for (const auto& [id, lease] : leases_) {
    if (lease.model != nullptr) {
      snapshots.push_back(lease.snapshot);
    }
  }
  return snapshots;
}

}  // namespace weightd::cache
