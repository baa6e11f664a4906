#include "daemon/source/http_regulator.h"

namespace weightd::source {

void Regulator::Tick() {
  const bool awaited = awaited_();
  if (awaited != was_awaited_) {
    was_awaited_ = awaited;
    allowance_.SetAwaited(awaited);
  }
}

}  // namespace weightd::source
