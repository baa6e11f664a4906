#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_BANDWIDTH_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_BANDWIDTH_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "daemon/source/http/token_bucket.h"

namespace weightd::source {

// How many bytes a second all reads of a store, or of all stores, may receive. Thread-safe.
class Bandwidth {
 public:
  // Above zero.
  explicit Bandwidth(uint64_t bytes_per_second);

  uint64_t bytes_per_second() const { return bytes_per_second_; }

 private:
  friend class Allowance;

  const uint64_t bytes_per_second_;
  absl::Mutex mutex_;
  TokenBucket bucket_ ABSL_GUARDED_BY(mutex_);
};

// What one read may receive under all the limits that hold for it. Thread-safe; its callers take
// many bytes at a time.
class Allowance {
 public:
  // Without limits there is nothing to be taken: see limited().
  Allowance(std::vector<std::shared_ptr<Bandwidth>> limits, bool awaited);
  ~Allowance();
  Allowance(const Allowance&) = delete;

  bool limited() const { return !limits_.empty(); }

  // What is worth taking at once: some milliseconds of the narrowest limit.
  uint64_t step() const;
  // At most `wanted`; 0: nothing for the moment.
  uint64_t Take(uint64_t wanted);
  // Of what was taken; less than 0: what was received beyond it, a debt that later reads pay too.
  void Return(int64_t bytes);
  // Whether somebody waits for the read: such reads go before the others.
  void SetAwaited(bool awaited);

 private:
  struct Limit {
    std::shared_ptr<Bandwidth> bandwidth;
    int account;
  };
  std::vector<Limit> limits_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_BANDWIDTH_H_
