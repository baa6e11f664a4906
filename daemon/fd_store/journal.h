#ifndef WEIGHTD_DAEMON_FD_STORE_JOURNAL_H_
#define WEIGHTD_DAEMON_FD_STORE_JOURNAL_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/fd.h"
#include "daemon/fd_store/fd_store.h"

namespace weightd::fd_store {

// What should be stored, with a duplicate of each descriptor, and what of that has still to be
// done. Names are removed before anything is stored: what was stored under one before it was
// removed isn't stored any more, so whoever does all tasks, in any number of attempts, has the
// keeper hold what the journal holds. Not thread-safe.
class Journal {
 public:
  struct Entry {
    std::string name;
    Fd fd;
  };
  struct Task {
    std::string name;
    // What to store; null: the name is to be removed.
    std::shared_ptr<const Entry> entry;
  };

  explicit Journal(size_t limit) : limit_(limit) {}

  size_t size() const { return entries_.size(); }
  // Of these, the ones that have still to be stored.
  size_t pending() const;
  // Of these, the ones that the keeper has no room for.
  size_t refused() const;
  // Models that any of them are of, as far as that was said.
  size_t models() const;
  // Empty if that wasn't said.
  std::string ModelOf(absl::string_view name) const;
  // Of others: what there was no room for here, or what couldn't be had.
  size_t turned_away() const { return turned_away_.size(); }
  // Names of which nothing has still to be stored, and nothing was refused.
  StoredNames Done() const;

  enum class Added { kNew, kThereAlready, kFull };
  // To be stored, unless this open file is under that name already.
  Added Add(absl::string_view name, Fd fd, absl::string_view model = {});
  // The same of one that the keeper has.
  Added AddStored(absl::string_view name, Fd fd);
  // The same of one that can't be had, so that it is among those that were turned away.
  void TurnAway(absl::string_view name) { turned_away_.emplace(name); }
  void Remove(absl::string_view name);

  // What to do next; it is taken for done from then on.
  std::optional<Task> Next();
  bool done() const { return removals_.empty() && pending_.empty(); }
  // It was not done, and has to be.
  void Again(const Task& task);
  // There is no room for it; it is tried again after a removal.
  void Refuse(const Task& task);
  void TryRefused();
  // The keeper has lost everything.
  void StoreAll();

 private:
  using Entries = std::multimap<std::string, std::shared_ptr<const Entry>, std::less<>>;
  Added Insert(const std::shared_ptr<const Entry>& entry);
  template <typename Entries>
  size_t CountHeld(const Entries& entries) const;
  bool Holds(const std::shared_ptr<const Entry>& entry) const;

  const size_t limit_;
  Entries entries_;
  // By name.
  std::map<std::string, std::string, std::less<>> models_;
  std::deque<std::string> removals_;
  // Entries that were removed meanwhile may be among them.
  std::deque<std::shared_ptr<const Entry>> pending_;
  std::vector<std::shared_ptr<const Entry>> refused_;
  // Names of what didn't become an entry.
  std::multiset<std::string, std::less<>> turned_away_;
};

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_JOURNAL_H_
