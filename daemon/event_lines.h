#ifndef WEIGHTD_DAEMON_EVENT_LINES_H_
#define WEIGHTD_DAEMON_EVENT_LINES_H_

#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/cache/events.h"
#include "daemon/line_meter.h"
#include "daemon/logging.h"

namespace weightd {

// What the log says of an event.
struct EventLine {
  LogLevel level;
  absl::string_view name;
  std::vector<LogField> fields;
};
EventLine EventLineOf(const cache::Event& event);

// Writes what happens in the cache to the log, one line an event. Of loads that clients set off
// each user and each listener may cause only so many lines, as of the audit's; how many were left
// out is written as "load.left_out". Thread-safe.
class EventLines {
 public:
  EventLines();

  void Happened(const cache::Event& event) ABSL_LOCKS_EXCLUDED(mutex_);
  // How many lines were left out so far; after the last event.
  void WriteLeftOut() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Whether the event's line is to be written.
  bool Admit(const cache::Event& event) ABSL_LOCKS_EXCLUDED(mutex_);
  void WriteLeftOutBy(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  ClientLineMeter loads_ ABSL_GUARDED_BY(mutex_);
  LeftOutClock clock_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_EVENT_LINES_H_
