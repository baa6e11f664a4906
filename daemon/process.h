#ifndef WEIGHTD_DAEMON_PROCESS_H_
#define WEIGHTD_DAEMON_PROCESS_H_

#include <memory>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/fd.h"

namespace weightd {

// What `weightd` and `weightctl` end with (sysexits.h).
inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitUnavailable = 69;
inline constexpr int kExitSoftware = 70;
inline constexpr int kExitTryAgain = 75;
inline constexpr int kExitNotAllowed = 77;

int ExitCodeOf(const absl::Status& status);

// Before any thread starts: no core dump and no /proc access that would give client data away, no
// death by SIGPIPE, as many descriptors as the limit allows, new files for our eyes only; SIGTERM
// and SIGINT blocked, for StopSignals to take, and SIGHUP, for ConfigReloader.
void PrepareProcess();

// Cancels when SIGTERM or SIGINT comes. What then takes longer than `grace`, or until a second
// signal, is cut short: the process exits with kExitSoftware. Ends with its owner.
class StopSignals {
 public:
  // `stopping` outlives it.
  static absl::StatusOr<std::unique_ptr<StopSignals>> Start(Cancellation* stopping,
                                                            absl::Duration grace);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;

  // Returns when a signal came.
  void Wait() { stopped_.WaitForNotification(); }

 private:
  StopSignals(Fd signals, Fd done) : signals_(std::move(signals)), done_(std::move(done)) {}
  void Run(Cancellation* stopping, absl::Duration grace);
  // Whether a signal came; false if our owner is done or the time is over.
  bool WaitForSignal(int timeout_ms);

  const Fd signals_;
  const Fd done_;
  absl::Notification stopped_;
  std::thread thread_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_PROCESS_H_
