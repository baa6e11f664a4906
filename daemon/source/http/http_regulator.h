#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_REGULATOR_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_REGULATOR_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "daemon/source/http/bandwidth.h"
#include "daemon/source/http/connection_budget.h"
#include "daemon/source/http/connection_policy.h"

namespace weightd::source {

// What one read may take of what it shares with others: connections, bytes. Its threads tell what
// they receive; one of them ticks.
class Regulator {
 public:
  // `awaited`: whether somebody waits for the read, asked at each tick. `budget` outlives it.
  Regulator(std::vector<std::shared_ptr<Bandwidth>> limits, ConnectionBudget* budget,
            std::function<bool()> awaited);
  ~Regulator();
  Regulator(const Regulator&) = delete;

  // How many connections the read may use now, all its threads together.
  int connections() const { return connections_.load(std::memory_order_relaxed); }
  Allowance& allowance() { return allowance_; }

  // Of bodies. Told now and then, not for each of them.
  void Received(uint64_t bytes) { received_.fetch_add(bytes, std::memory_order_relaxed); }
  // A server said that it is asked too much.
  void Refused() { refused_.store(true, std::memory_order_relaxed); }

  // How often it ticks, about.
  static constexpr std::chrono::milliseconds kTick{100};
  // True if there are more connections now.
  bool Tick();

 private:
  using SteadyClock = std::chrono::steady_clock;

  const std::function<bool()> awaited_;
  bool was_awaited_;
  Allowance allowance_;
  ConnectionBudget& budget_;
  ConnectionBudget::Member member_;
  ConnectionCount count_;
  std::atomic<int> connections_;
  std::atomic<uint64_t> received_ = 0;
  std::atomic<bool> refused_ = false;
  SteadyClock::time_point last_tick_ = SteadyClock::now();
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_REGULATOR_H_
