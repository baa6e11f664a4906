#include "daemon/source/http/token_bucket.h"

#include <algorithm>
#include <utility>

namespace weightd::source {
namespace {

double Seconds(TokenBucket::Time::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

int TokenBucket::Open(bool awaited, Time now) {
  Fill(now);
  accounts_[next_] = {.awaited = awaited};
  ++(awaited ? counts_.awaited : counts_.background);
  return next_++;
}

void TokenBucket::Close(int account, Time now) {
  Fill(now);
  const Account closed = accounts_.extract(account).mapped();
  debt_ += std::max(-closed.tokens, 0.0);
  --(closed.awaited ? counts_.awaited : counts_.background);
}

void TokenBucket::SetAwaited(int account, bool awaited, Time now) {
  Account& changed = accounts_.at(account);
  if (changed.awaited != awaited) {
    Fill(now);
    --(changed.awaited ? counts_.awaited : counts_.background);
    ++(awaited ? counts_.awaited : counts_.background);
    changed.awaited = awaited;
  }
}

uint64_t TokenBucket::Take(int account, uint64_t wanted, Time now) {
  Fill(now);
  double& tokens = accounts_.at(account).tokens;
  const uint64_t taken = std::min(wanted, static_cast<uint64_t>(std::max(tokens, 0.0)));
  tokens -= static_cast<double>(taken);
  return taken;
}

void TokenBucket::Return(int account, int64_t bytes) {
  accounts_.at(account).tokens += static_cast<double>(bytes);
}

void TokenBucket::Fill(Time now) {
  const double most = rate_ * Seconds(kBurst);
  double fresh = rate_ * Seconds(now - std::exchange(filled_, now));
  const double paid = std::min(fresh, debt_);
  debt_ -= paid;
  fresh -= paid;
  // Each turn fills an account to the brim or is the last.
  while (fresh > 0) {
    double parts = 0;
    for (const auto& [number, account] : accounts_) {
      parts += account.tokens < most ? ShareOf(account.awaited, counts_) : 0;
    }
    if (parts == 0) {
      return;
    }
    double overflow = 0;
    for (auto& [number, account] : accounts_) {
      if (account.tokens < most) {
        account.tokens += fresh * ShareOf(account.awaited, counts_) / parts;
        overflow += std::max(account.tokens - most, 0.0);
        account.tokens = std::min(account.tokens, most);
      }
    }
    fresh = overflow;
  }
}

}  // namespace weightd::source
