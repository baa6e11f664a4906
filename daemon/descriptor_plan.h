#ifndef WEIGHTD_DAEMON_DESCRIPTOR_PLAN_H_
#define WEIGHTD_DAEMON_DESCRIPTOR_PLAN_H_

#include <cstdint>

#include "weightd/v1/config.pb.h"

namespace weightd {

// Which descriptors a config can come to need, and how many there are. Without enough of them,
// clients who use what their listener allows would leave none for operators and loads.
struct DescriptorPlan {
  // By the connections and sessions of all listeners; by operators, metrics, loads and models.
  uint64_t listeners = 0;
  uint64_t others = 0;
  uint64_t limit = 0;

  uint64_t needed() const { return listeners + others; }
  bool fits() const { return needed() <= limit; }
};
// `gpus` is how many GPUs the node has, `limit` RLIMIT_NOFILE.
DescriptorPlan PlanDescriptors(const v1::Config& config, uint64_t gpus, uint64_t limit);

// Lowers max_connections and max_sessions of all listeners by the same share, so that the rest
// has what it may need; a quarter of the limit is theirs in any case.
void LowerToFit(const DescriptorPlan& plan, v1::Config& config);

// `config` with listeners that fit into this process' limit. Says in the log if they were lowered.
v1::Config WithinDescriptors(v1::Config config, uint64_t gpus);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_DESCRIPTOR_PLAN_H_
