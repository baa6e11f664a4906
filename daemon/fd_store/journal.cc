#include "daemon/fd_store/journal.h"

#include <algorithm>
#include <utility>

#include "daemon/fd_store/same_open_file.h"

namespace weightd::fd_store {

template <typename Entries>
size_t Journal::CountHeld(const Entries& entries) const {
  return static_cast<size_t>(std::count_if(entries.begin(), entries.end(),
                                           [this](const auto& entry) { return Holds(entry); }));
}

size_t Journal::pending() const { return CountHeld(pending_); }

size_t Journal::refused() const { return CountHeld(refused_); }

size_t Journal::models() const {
  std::set<absl::string_view> models;
  for (const auto& [name, model] : models_) {
    models.insert(model);
  }
  return models.size();
}

std::string Journal::ModelOf(absl::string_view name) const {
  const auto found = models_.find(name);
  return found == models_.end() ? "" : found->second;
}

StoredNames Journal::Done() const {
  StoredNames done;
  for (const auto& [name, entry] : entries_) {
    done.insert(done.end(), name);
  }
  const auto take_out = [this, &done](const auto& entries) {
    for (const std::shared_ptr<const Entry>& entry : entries) {
      if (Holds(entry)) {
        done.erase(entry->name);
      }
    }
  };
  take_out(pending_);
  take_out(refused_);
  for (const std::string& name : turned_away_) {
    done.erase(name);
  }
  return done;
}

Journal::Added Journal::Add(absl::string_view name, Fd fd, absl::string_view model) {
  if (!model.empty()) {
    models_[std::string(name)] = std::string(model);
  }
  const auto entry = std::make_shared<const Entry>(Entry{std::string(name), std::move(fd)});
  const Added added = Insert(entry);
  if (added == Added::kNew) {
    pending_.push_back(entry);
    if (const auto before = turned_away_.find(name); before != turned_away_.end()) {
      turned_away_.erase(before);
    }
  } else if (added == Added::kFull) {
    turned_away_.insert(entry->name);
  }
  return added;
}

Journal::Added Journal::AddStored(absl::string_view name, Fd fd) {
  return Insert(std::make_shared<const Entry>(Entry{std::string(name), std::move(fd)}));
}

Journal::Added Journal::Insert(const std::shared_ptr<const Entry>& entry) {
  const auto [first, end] = entries_.equal_range(entry->name);
  const bool there = std::any_of(first, end, [&entry](const auto& named) {
    return IsSameOpenFile(named.second->fd.get(), entry->fd.get());
  });
  if (there || entries_.size() >= limit_) {
    return there ? Added::kThereAlready : Added::kFull;
  }
  entries_.emplace(entry->name, entry);
  return Added::kNew;
}

void Journal::Remove(absl::string_view name) {
  const auto [first, end] = entries_.equal_range(name);
  entries_.erase(first, end);
  if (const auto model = models_.find(name); model != models_.end()) {
    models_.erase(model);
  }
  turned_away_.erase(turned_away_.lower_bound(name), turned_away_.upper_bound(name));
  if (std::find(removals_.begin(), removals_.end(), name) == removals_.end()) {
    removals_.emplace_back(name);
  }
}

std::optional<Journal::Task> Journal::Next() {
  if (!removals_.empty()) {
    Task task{std::move(removals_.front()), nullptr};
    removals_.pop_front();
    return task;
  }
  while (!pending_.empty()) {
    const std::shared_ptr<const Entry> entry = std::move(pending_.front());
    pending_.pop_front();
    if (Holds(entry)) {
      return Task{entry->name, entry};
    }
  }
  return std::nullopt;
}

void Journal::Again(const Task& task) {
  if (task.entry == nullptr) {
    removals_.push_front(task.name);
  } else {
    pending_.push_front(task.entry);
  }
}

void Journal::Refuse(const Task& task) {
  if (task.entry != nullptr) {
    refused_.push_back(task.entry);
  }
}

void Journal::TryRefused() {
  pending_.insert(pending_.end(), refused_.begin(), refused_.end());
  refused_.clear();
}

void Journal::StoreAll() {
  pending_.clear();
  refused_.clear();
  for (const auto& [name, entry] : entries_) {
    pending_.push_back(entry);
  }
}

bool Journal::Holds(const std::shared_ptr<const Entry>& entry) const {
  const auto [first, end] = entries_.equal_range(entry->name);
  return std::any_of(first, end, [&entry](const auto& named) { return named.second == entry; });
}

}  // namespace weightd::fd_store
