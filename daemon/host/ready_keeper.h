#ifndef WEIGHTD_DAEMON_HOST_READY_KEEPER_H_
#define WEIGHTD_DAEMON_HOST_READY_KEEPER_H_

#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"
#include "daemon/host/host_tier.h"

namespace weightd::host {

// Keeps a tier's ready memory ready, on a thread that others go before.
class ReadyKeeper {
 public:
  explicit ReadyKeeper(std::shared_ptr<HostTier> tier);
  ~ReadyKeeper();
  ReadyKeeper(const ReadyKeeper&) = delete;

 private:
  absl::Notification stopping_;
  std::thread thread_;
};

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_READY_KEEPER_H_
