#include "daemon/keeper/shelf.h"

#include <utility>

#include "daemon/fd_store/same_open_file.h"

namespace weightd::keeper {

bool Shelf::Put(std::string_view name, Fd fd) {
  const auto [first, end] = names_.equal_range(name);
  for (auto same = first; same != end; ++same) {
    if (fd_store::IsSameOpenFile(kept_.at(same->second).fd.get(), fd.get())) {
      return true;
    }
  }
  if (kept_.size() >= limit_) {
    return false;
  }
  const uint64_t number = ++last_;
  const auto kept = kept_.emplace(number, Kept{number, std::string(name), std::move(fd)}).first;
  names_.emplace(kept->second.name, number);
  return true;
}

void Shelf::Remove(std::string_view name) {
  for (auto found = names_.find(name); found != names_.end(); found = names_.find(name)) {
    const auto kept = kept_.find(found->second);
    names_.erase(found);
    kept_.erase(kept);
  }
}

const Shelf::Kept* Shelf::After(uint64_t number) const {
  const auto next = kept_.upper_bound(number);
  return next == kept_.end() ? nullptr : &next->second;
}

}  // namespace weightd::keeper
