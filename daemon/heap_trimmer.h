#ifndef WEIGHTD_DAEMON_HEAP_TRIMMER_H_
#define WEIGHTD_DAEMON_HEAP_TRIMMER_H_

#include <thread>

#include "absl/synchronization/notification.h"

namespace weightd {

// Gives freed memory back to the kernel, every few seconds for as long as it lives. By itself the C
// library keeps most of it (malloc_trim(3)): a burst of calls would count against the daemon's
// memory limit ever after.
class HeapTrimmer {
 public:
  HeapTrimmer();
  ~HeapTrimmer();
  HeapTrimmer(const HeapTrimmer&) = delete;

 private:
  absl::Notification over_;
  std::thread thread_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_HEAP_TRIMMER_H_
