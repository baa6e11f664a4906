// Asking the source, in the background, whether a resident model is still the newest.

#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {

void NodeCache::CheckIfDue(const Entry& entry) {
  Record& record = *catalog_.FindRecord(entry.uri);
  const bool due = Uptime() - record.checked_at >= options_.revalidate;
  if (loads_stopped_ || options_.revalidate == absl::InfiniteDuration() || !due ||
      record.checking || flights_.contains(entry.uri.ToString())) {
    return;
  }
  record.checking = true;
  // Not those that it doesn't have: a question for each, over and over, is too much for a server.
  std::vector<std::string> known;
  for (const pipeline::SmallFile& small : entry.model->index.small_files) {
    known.push_back(small.file.name);
  }
  checks_.Run([this, uri = entry.uri, policy = entry.policy, known = std::move(known)] {
    Check(uri, policy, known);
  });
}

void NodeCache::Check(const Uri& uri, const source::ReadPolicy& policy,
                      const pipeline::KnownSmallFiles& small_files) {
  const absl::StatusOr<pipeline::ResolvedModel> newest =
      loader_->Resolve(uri, policy, small_files, shutdown_);
  absl::MutexLock lock(&mutex_);
  Record* record = catalog_.FindRecord(uri);
  if (stopping_ || record == nullptr) {
    return;
  }
  record->checking = false;
  catalog_.NoteChecked(uri, absl::Now(), Uptime());
  const Entry* current = catalog_.Find(record->current);
  if (current == nullptr) {
    return;
  }
  if (!newest.ok()) {
    if (!std::exchange(record->stale, true)) {
      Publish(EventKind::kStale, uri, current->revision(), current->model->charged_bytes(),
              newest.status());
    }
  } else if (newest->revision == current->revision()) {
    record->stale = false;
    record->last_error.clear();
  } else if (!loads_stopped_ && !flights_.contains(uri.ToString())) {
    Interest news;
    news.waiter = std::make_shared<Waiter>(nullptr, nullptr);
    news.policy = policy;
    news.persistent = true;
    Outcomes nobody_waits;
    Join(uri, std::move(news), nobody_waits);
  }
}

}  // namespace weightd::cache
