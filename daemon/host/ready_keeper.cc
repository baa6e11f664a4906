#include "daemon/host/ready_keeper.h"

#include <pthread.h>
#include <sys/resource.h>

#include <utility>

#include "absl/time/time.h"

namespace weightd::host {
namespace {

// How soon it sees that a load has ended or that memory came free.
constexpr absl::Duration kBetweenLooks = absl::Milliseconds(200);
constexpr int kNiceness = 19;

}  // namespace

ReadyKeeper::ReadyKeeper(std::shared_ptr<HostTier> tier)
    : thread_([this, tier = std::move(tier)] {
        pthread_setname_np(pthread_self(), "weightd-ready");
        // Of this thread alone (setpriority(2), "C library/kernel differences").
        setpriority(PRIO_PROCESS, 0, kNiceness);
        while (!stopping_.HasBeenNotified()) {
          if (!tier->PrepareReady()) {
            stopping_.WaitForNotificationWithTimeout(kBetweenLooks);
          }
        }
      }) {}

ReadyKeeper::~ReadyKeeper() {
  stopping_.Notify();
  thread_.join();
}

}  // namespace weightd::host
