#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_RUN_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_RUN_H_

#include <curl/curl.h>

#include <atomic>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "daemon/source/http/http_exchange.h"
#include "daemon/source/http/http_regulator.h"
#include "daemon/source/http/retry_policy.h"

namespace weightd::source {

// What the threads that carry out a queue of exchanges share. Thread-safe, but for AddMulti().
class Run {
 public:
  // Both outlive it.
  Run(ExchangeQueue* exchanges, Regulator* regulator, int retries)
      : exchanges_(*exchanges), regulator_(*regulator), retries_(retries) {}

  // Where a thread waits; before the first of them starts.
  void AddMulti(CURLM* multi) { multis_.push_back(multi); }
  void WakeAll();

  // The next one to carry out; null if there is none, now and for good.
  Exchange* Next();
  bool exhausted() const { return exhausted_; }

  // The first failure is the run's, and ends it.
  void Fail(const absl::Status& status);
  // Also from a thread that carries out nothing.
  void Stop();
  const std::atomic<bool>& stopped() const { return stopped_; }
  absl::Status status() const;

  Regulator& regulator() { return regulator_; }
  RetryBudget& retries() { return retries_; }

 private:
  ExchangeQueue& exchanges_;
  Regulator& regulator_;
  RetryBudget retries_;
  std::vector<CURLM*> multis_;
  std::atomic<bool> exhausted_ = false;
  std::atomic<bool> stopped_ = false;
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_RUN_H_
