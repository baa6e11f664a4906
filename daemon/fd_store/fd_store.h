#ifndef WEIGHTD_DAEMON_FD_STORE_FD_STORE_H_
#define WEIGHTD_DAEMON_FD_STORE_FD_STORE_H_

#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/fd.h"

namespace weightd::fd_store {

// A descriptor that an earlier daemon left.
struct StoredFd {
  std::string name;
  Fd fd;
};

// Names of descriptors in the store.
using StoredNames = std::set<std::string, std::less<>>;

// How it is about the store, at one moment.
struct StoreStatus {
  // For people: systemd's socket, or the keeper's folder.
  std::string place = {};
  bool reachable = false;
  // Descriptors that it has; that are on their way, all while it can't be reached; that it has no
  // room for.
  size_t stored = 0;
  size_t pending = 0;
  size_t refused = 0;
  // That it had from others when this process took its own back.
  size_t others = 0;
};

// Where descriptors outlive this process. Thread-safe.
class FdStore {
 public:
  virtual ~FdStore() = default;

  // What is there from an earlier daemon; each is given once, before the first Store.
  virtual std::vector<StoredFd> TakeBack() = 0;

  // What TakeBack didn't wait for, for the keeper was away or hung, is given to `take` once it is
  // known, by a thread of the store; what nobody takes stays for the next daemon. `take` may call
  // Store and Remove. Null: to nobody from here on; returns when no call is under way.
  using Take = std::function<void(std::vector<StoredFd>)>;
  virtual void OnLate([[maybe_unused]] Take take) {}

  // Stores a duplicate of `fd` (the same open file description) under `name`; several may have one
  // name. `model` is what people are told it is of; empty: of none. Returns at once: a thread of
  // the store brings it there, and again whenever the keeper was away. Names: 1-255 of
  // [A-Za-z0-9._-].
  virtual void Store(absl::string_view name, const Fd& fd, absl::string_view model) = 0;
  void Store(absl::string_view name, const Fd& fd) { Store(name, fd, {}); }

  // Forgets all of that name. Unknown names are fine.
  virtual void Remove(absl::string_view name) = 0;

  // Waits until all that was asked for is done. False if it wasn't by then: for the end of a
  // daemon, whose successor is to find everything.
  virtual bool Flush([[maybe_unused]] absl::Time deadline) { return true; }

  virtual StoreStatus status() const { return {}; }

  // Of those that the keeper has confirmed: all that was stored under that name is there. None
  // while it can't be reached.
  virtual StoredNames Confirmed() const = 0;
};

}  // namespace weightd::fd_store

#endif  // WEIGHTD_DAEMON_FD_STORE_FD_STORE_H_
