#ifndef WEIGHTD_DAEMON_LINE_METER_H_
#define WEIGHTD_DAEMON_LINE_METER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"

namespace weightd {

// How many lines of the log each of several causes may bring about: a burst, and then some in each
// second. Counts those that are left out. Not thread-safe.
class LineMeter {
 public:
  struct Rate {
    double burst;
    double per_second;
  };

  explicit LineMeter(Rate rate) : rate_(rate) {}

  // Whether a line of this cause is to be written now.
  bool Admit(const std::string& cause, absl::Time now);

  using LeftOut = std::vector<std::pair<std::string, uint64_t>>;
  // How many lines of which cause were left out since this was asked last.
  LeftOut TakeLeftOut(absl::Time now);

 private:
  struct Bucket {
    double lines = 0;
    absl::Time filled;
    uint64_t left_out = 0;
  };

  void Fill(Bucket& bucket, absl::Time now) const;

  const Rate rate_;
  absl::flat_hash_map<std::string, Bucket> buckets_;
};

// How many lines the users of listeners may cause: each user of a listener, and all of a listener
// together. Not thread-safe.
class ClientLineMeter {
 public:
  ClientLineMeter(LineMeter::Rate of_user, LineMeter::Rate of_listener)
      : of_user_(of_user), of_listener_(of_listener) {}

  bool Admit(const std::string& listener, std::optional<uint32_t> uid, absl::Time now);

  // As LineMeter's, of users ("jobs uid 1000") and of listeners; each line counts once.
  LineMeter::LeftOut TakeLeftOut(absl::Time now);

 private:
  LineMeter of_user_;
  LineMeter of_listener_;
};

// When it is time to tell of what was left out. Not thread-safe.
class LeftOutClock {
 public:
  // True the first time, and then at most every ten seconds.
  bool Strikes(absl::Time now);

 private:
  absl::Time next_ = absl::InfinitePast();
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_LINE_METER_H_
