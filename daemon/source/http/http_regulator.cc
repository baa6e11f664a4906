#include "daemon/source/http/http_regulator.h"

#include <utility>

namespace weightd::source {

Regulator::Regulator(std::vector<std::shared_ptr<Bandwidth>> limits, ConnectionBudget* budget,
                     std::function<bool()> awaited)
    : awaited_(std::move(awaited)),
      was_awaited_(awaited_()),
      allowance_(std::move(limits), was_awaited_),
      budget_(*budget),
      member_(budget),
      count_(budget->first(), member_.Update(was_awaited_, 0)),
      connections_(count_.count()) {
  member_.Update(was_awaited_, connections_);
}

Regulator::~Regulator() {
  if (count_.settled()) {
    budget_.Settled(count_.count());
  }
}

bool Regulator::Tick() {
  const SteadyClock::time_point now = SteadyClock::now();
  const double seconds =
      std::chrono::duration<double>(now - std::exchange(last_tick_, now)).count();
  const bool awaited = awaited_();
  if (std::exchange(was_awaited_, awaited) != awaited) {
    allowance_.SetAwaited(awaited);
  }
  const int before = count_.count();
  count_.SetMost(member_.Update(awaited, before));
  if (refused_.exchange(false)) {
    count_.Refused();
  } else if (seconds > 0) {
    count_.Observe(static_cast<double>(received_.exchange(0)) / seconds);
  }
  connections_ = count_.count();
  return connections_ > before;
}

}  // namespace weightd::source
