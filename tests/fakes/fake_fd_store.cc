#include "tests/fakes/fake_fd_store.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"

namespace weightd::fakes {
namespace {

bool SameFile(const Fd& one, const Fd& other) {
  struct stat a{};
  struct stat b{};
  return fstat(one.get(), &a) == 0 && fstat(other.get(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

}  // namespace

std::vector<fd_store::StoredFd> FakeFdStore::TakeBack() {
  absl::MutexLock lock(&mutex_);
  std::vector<fd_store::StoredFd> stored;
  for (const auto& [name, fd] : fds_) {
    stored.push_back({name, fd.Duplicate().value()});
  }
  if (hangs_) {
    late_ = std::exchange(stored, {});
  }
  return stored;
}

void FakeFdStore::OnLate(Take take) {
  absl::MutexLock late(&late_mutex_);
  take_late_ = std::move(take);
}

void FakeFdStore::Hang() {
  absl::MutexLock lock(&mutex_);
  hangs_ = true;
}

bool FakeFdStore::Answer() {
  absl::MutexLock late(&late_mutex_);
  std::vector<fd_store::StoredFd> stored;
  {
    absl::MutexLock lock(&mutex_);
    hangs_ = false;
    stored = std::exchange(late_, {});
  }
  if (take_late_ == nullptr) {
    return false;
  }
  take_late_(std::move(stored));
  return true;
}

void FakeFdStore::Store(absl::string_view name, const Fd& fd, absl::string_view /*model*/) {
  absl::MutexLock lock(&mutex_);
  if (refused_.has_value() && absl::EndsWith(name, *refused_)) {
    return;
  }
  const auto [first, last] = fds_.equal_range(std::string(name));
  for (auto known = first; known != last; ++known) {
    if (SameFile(known->second, fd)) {
      return;
    }
  }
  fds_.emplace(std::string(name), fd.Duplicate().value());
}

void FakeFdStore::Remove(absl::string_view name) {
  absl::MutexLock lock(&mutex_);
  fds_.erase(std::string(name));
}

fd_store::StoredNames FakeFdStore::Confirmed() const {
  const std::vector<std::string> names = Names();
  absl::MutexLock lock(&mutex_);
  return confirms_ ? fd_store::StoredNames(names.begin(), names.end()) : fd_store::StoredNames();
}

bool FakeFdStore::Flush(absl::Time /*deadline*/) {
  absl::MutexLock lock(&mutex_);
  return confirms_;
}

void FakeFdStore::ConfirmNothing() {
  absl::MutexLock lock(&mutex_);
  confirms_ = false;
}

void FakeFdStore::Refuse(std::string end) {
  absl::MutexLock lock(&mutex_);
  refused_ = std::move(end);
}

std::vector<std::string> FakeFdStore::Names() const { return NamesOf(""); }

std::vector<std::string> FakeFdStore::NamesOf(absl::string_view end) const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::string> names;
  for (const auto& [name, fd] : fds_) {
    if (absl::EndsWith(name, end)) {
      names.push_back(name);
    }
  }
  return names;
}

Fd FakeFdStore::Find(absl::string_view name) const {
  absl::MutexLock lock(&mutex_);
  const auto found = fds_.find(std::string(name));
  return found == fds_.end() ? Fd() : found->second.Duplicate().value();
}

void FakeFdStore::Replace(absl::string_view name, Fd fd) {
  absl::MutexLock lock(&mutex_);
  fds_.erase(std::string(name));
  fds_.emplace(std::string(name), std::move(fd));
}

}  // namespace weightd::fakes
