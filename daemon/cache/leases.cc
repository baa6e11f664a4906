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

}  // namespace

LeaseId LeaseTable::Grant(const Holder& holder, EntryId entry, const Uri& uri,
                          std::shared_ptr<const pipeline::ResidentModel> model, absl::Time now,
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
                    .claimed = false};
  lease.model = std::move(model);
  leases_.emplace_hint(leases_.end(), id, std::move(lease));
  sessions_[holder.session].insert(id);
  entries_[entry].insert(id);
  unclaimed_.emplace_back(uptime, id);
  return id;
}

LeaseTable::Ended LeaseTable::Erase(absl::btree_map<LeaseId, Lease>::iterator lease) {
  const auto [id, ended] = *lease;
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
  return {.lease = id, .entry = ended.model == nullptr ? EntryId() : ended.entry};
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
    const Ended lease = Erase(leases_.find(id));
    if (lease.entry != EntryId()) {
      ended.push_back(lease);
    }
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

std::vector<LeaseTable::Ended> LeaseTable::Revoke(EntryId entry) {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(entry);
  if (found == entries_.end()) {
    return {};
  }
  std::vector<Ended> ended;
  for (const LeaseId id : found->second) {
    leases_.at(id).model = nullptr;
    ended.push_back({.lease = id, .entry = entry});
  }
  entries_.erase(found);
  return ended;
}

absl::StatusOr<LeaseTable::Held> LeaseTable::Find(SessionId session, LeaseId lease) const {
  absl::MutexLock lock(&mutex_);
  const auto found = leases_.find(lease);
  if (found == leases_.end() || found->second.session != session ||
      found->second.model == nullptr) {
    return Unknown(lease);
  }
  return Held{.model = found->second.model, .listener = found->second.snapshot.listener};
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
