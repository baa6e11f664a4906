#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_CONNECTION_POLICY_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_CONNECTION_POLICY_H_

#include <cstdint>

#include "daemon/source/http/fair_share.h"

// How many connections a read uses, and how much is asked for in one request. Pure.

namespace weightd::source {

// The connections of one read. Begins with few, doubles them while that brings a quarter more bytes
// a second, twice in a row, and goes back to the last number that did. Where more don't help (a
// fast server nearby, a full link, a limit) few remain, which cost less; where each is slow (a
// distant server, one that limits connections) there will be many. Now and then it looks again.
class ConnectionCount {
 public:
  static constexpr int kFirst = 4;

  // `most` is at least 1.
  ConnectionCount(int first, int most);

  int count() const;
  // Whether it has found its number.
  bool settled() const { return stage_ == Stage::kSettled; }

  // How fast bytes came since it was told last. Told at even intervals, of which it takes some to
  // see what a change brought; see Regulator::kTick.
  void Observe(double bytes_per_second);
  // The server says that it is asked too much: half of them, down to kFirst, will do for a while.
  void Refused();
  void SetMost(int most);

 private:
  enum class Stage { kStarting, kMeasuring, kTrying, kSettled };

  void Measure();
  void Try();
  void Settle(int count);

  int count_;
  int most_;
  Stage stage_ = Stage::kStarting;
  // In this stage.
  int observed_ = 0;
  // Looks in a row that found the doubling worth it.
  int worthwhile_ = 0;
  // Before the doubling that is being tried.
  int count_before_ = 0;
  double rate_before_ = 0;
};

// What a read may have of `budget` connections that a store's reads share; at least one. Those that
// nobody waits for have, together, at most a quarter of the `awaited_in_use` connections of the
// others too, for a network shares itself out by connections.
int MostConnections(int budget, bool awaited, ReadCounts counts, int awaited_in_use);

// How much to ask for next where `rest` bytes are left for `connections`: at most `largest`, and
// less towards the end, so that all end together.
uint64_t RangeBytes(uint64_t rest, int connections, uint64_t largest);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_CONNECTION_POLICY_H_
