#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_TOKEN_BUCKET_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_TOKEN_BUCKET_H_

#include <chrono>
#include <cstdint>
#include <map>

#include "daemon/source/http/fair_share.h"

namespace weightd::source {

// A rate that several reads share. Its tokens (bytes) flow into one account for each read, by
// ShareOf(); what overflows an account flows into the others, so that nothing is lost while one of
// them can use it. Pure: the time is handed in, and never goes back. Not thread-safe.
class TokenBucket {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // What an account holds at most is the whole rate over so long a time.
  static constexpr std::chrono::milliseconds kBurst{100};

  TokenBucket(uint64_t bytes_per_second, Time now)
      : rate_(static_cast<double>(bytes_per_second)), filled_(now) {}

  // A new account, empty. Its number is never used again.
  int Open(bool awaited, Time now);
  // What it owes, the others pay.
  void Close(int account, Time now);
  void SetAwaited(int account, bool awaited, Time now);

  // At most `wanted`; 0: nothing for the moment.
  uint64_t Take(int account, uint64_t wanted, Time now);
  // Of what was taken; less than 0: a debt.
  void Return(int account, int64_t bytes);

 private:
  struct Account {
    bool awaited = false;
    double tokens = 0;
  };

  void Fill(Time now);

  const double rate_;
  Time filled_;
  // Of closed accounts.
  double debt_ = 0;
  std::map<int, Account> accounts_;
  ReadCounts counts_;
  int next_ = 0;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_TOKEN_BUCKET_H_
