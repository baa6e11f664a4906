#include "daemon/source/http/http_connections.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

namespace weightd::source {
namespace {

constexpr size_t kMostIdle = 4;
constexpr size_t kMostIdleConnections = 16;
// Servers end them, too, and whatever lies between forgets them.
constexpr std::chrono::seconds kLongestIdle{60};

bool IsStale(const DirectConnection& connection) {
  return !connection.reusable() ||
         std::chrono::steady_clock::now() - connection.idle_since() > kLongestIdle;
}

}  // namespace

std::unique_ptr<DirectConnection> Connections::Take(
    absl::FunctionRef<bool(const DirectConnection&)> fits) {
  idle_.erase(std::remove_if(idle_.begin(), idle_.end(),
                             [](const auto& connection) { return IsStale(*connection); }),
              idle_.end());
  for (size_t i = idle_.size(); i-- > 0;) {
    if (fits(*idle_[i])) {
      std::unique_ptr<DirectConnection> connection = std::move(idle_[i]);
      idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
      return connection;
    }
  }
  return nullptr;
}

void Connections::GiveBack(std::unique_ptr<DirectConnection> connection) {
  if (!connection->reusable()) {
    return;
  }
  idle_.push_back(std::move(connection));
  if (idle_.size() > kMostIdleConnections) {
    idle_.erase(idle_.begin());
  }
}

std::unique_ptr<Connections> ConnectionPool::Take() {
  absl::MutexLock lock(&mutex_);
  if (idle_.empty()) {
    return std::make_unique<Connections>();
  }
  std::unique_ptr<Connections> connections = std::move(idle_.back());
  idle_.pop_back();
  return connections;
}

void ConnectionPool::GiveBack(std::unique_ptr<Connections> connections) {
  absl::MutexLock lock(&mutex_);
  if (idle_.size() < kMostIdle) {
    idle_.push_back(std::move(connections));
  }
}

}  // namespace weightd::source
