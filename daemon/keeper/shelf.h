#ifndef WEIGHTD_DAEMON_KEEPER_SHELF_H_
#define WEIGHTD_DAEMON_KEEPER_SHELF_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "common/fd.h"

namespace weightd::keeper {

// The descriptors, by name. Never reads, maps or opens anew what they are of: an open file of ours
// would count as a holder (daemon/host/holders.h), the one that came with a packet is its sender's
// own.
class Shelf {
 public:
  struct Kept {
    uint64_t number;  // each has a larger one than those before
    std::string name;
    Fd fd;
  };

  explicit Shelf(size_t limit) : limit_(limit) {}

  // False if it is full. What is there under that name already is not kept twice.
  bool Put(std::string_view name, Fd fd);
  void Remove(std::string_view name);
  // The first with a larger number; null if there is none.
  const Kept* After(uint64_t number) const;

  size_t limit() const { return limit_; }
  // Of the youngest ever; 0 if there was none.
  uint64_t last() const { return last_; }

 private:
  const size_t limit_;
  uint64_t last_ = 0;
  std::map<uint64_t, Kept> kept_;
  // Names are those in kept_.
  std::multimap<std::string_view, uint64_t> names_;
};

}  // namespace weightd::keeper

#endif  // WEIGHTD_DAEMON_KEEPER_SHELF_H_
