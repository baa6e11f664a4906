#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_CONNECTION_BUDGET_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_CONNECTION_BUDGET_H_

#include <list>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "daemon/source/http/connection_policy.h"

namespace weightd::source {

// The connections that all reads of a store have together, shared out by MostConnections(); where
// there are more reads than connections, each has one. Thread-safe.
class ConnectionBudget {
 public:
  explicit ConnectionBudget(int connections) : connections_(connections) {}

  // How many a new read had better begin with.
  int first() const;
  // A read found that so many are right.
  void Settled(int connections);

  // One read's place in the budget, which outlives it.
  class Member {
   public:
    explicit Member(ConnectionBudget* budget);
    ~Member();
    Member(const Member&) = delete;

    // What it may have now. Says whether somebody waits for it, and how many it uses.
    int Update(bool awaited, int in_use);

   private:
    struct State {
      bool awaited = true;
      int in_use = 0;
    };
    friend class ConnectionBudget;

    ConnectionBudget& budget_;
    std::list<State>::iterator state_;
  };

 private:
  const int connections_;
  mutable absl::Mutex mutex_;
  int first_ ABSL_GUARDED_BY(mutex_) = ConnectionCount::kFirst;
  std::list<Member::State> members_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_CONNECTION_BUDGET_H_
