#ifndef WEIGHTD_DAEMON_LINE_METER_H_
#define WEIGHTD_DAEMON_LINE_METER_H_

#include <cstdint>
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

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_LINE_METER_H_
