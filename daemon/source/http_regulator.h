#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_REGULATOR_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_REGULATOR_H_

#include <chrono>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/source/bandwidth.h"

namespace weightd::source {

// What one read may take of what it shares with others. Its threads receive by allowance(); one of
// them ticks.
class Regulator {
 public:
  // `awaited`: whether somebody waits for the read, asked at each tick.
  Regulator(std::vector<std::shared_ptr<Bandwidth>> limits, std::function<bool()> awaited)
      : awaited_(std::move(awaited)),
        was_awaited_(awaited_()),
        allowance_(std::move(limits), was_awaited_) {}

  Allowance& allowance() { return allowance_; }

  // How often it ticks, about.
  static constexpr std::chrono::milliseconds kTick{100};
  void Tick();

 private:
  const std::function<bool()> awaited_;
  bool was_awaited_;
  Allowance allowance_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_REGULATOR_H_
