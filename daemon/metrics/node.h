#ifndef WEIGHTD_DAEMON_METRICS_NODE_H_
#define WEIGHTD_DAEMON_METRICS_NODE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/uri.h"
#include "daemon/cache/cache.h"

namespace weightd::metrics {

// A client listener.
struct ListenerState {
  std::string name;
  uint32_t sessions = 0;
};

// A model of the config's list.
struct ConfiguredModel {
  std::string name;
  Uri uri;
  // What became of the config's promise: one of kConfiguredStates.
  std::string state;
};

// As ConfiguredModel.State in proto/weightd/v1/admin.proto, in small letters.
inline constexpr const char* kConfiguredStates[] = {"on_demand", "loading", "ready", "retrying",
                                                    "evicted"};

// What descriptors of models outlive the daemon in.
struct KeeperState {
  bool reachable = false;
  uint64_t stored = 0;
  uint64_t pending = 0;
  uint64_t refused = 0;
  uint64_t others = 0;
};

// Where metrics see what there is, at the moment that somebody asks. The functions are called from
// any thread and return at once.
struct Node {
  // Outlives whoever has this.
  cache::Cache* cache = nullptr;
  std::function<std::vector<ListenerState>()> listeners;
  std::function<std::vector<ConfiguredModel>()> models;
  // Of the certificate for administration over TCP, in seconds since 1970; 0 without one.
  std::function<int64_t()> admin_certificate_expiry = [] { return 0; };
  // Empty without a keeper.
  std::function<KeeperState()> keeper = {};
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_NODE_H_
