#ifndef WEIGHTD_DAEMON_EVENT_LINES_H_
#define WEIGHTD_DAEMON_EVENT_LINES_H_

#include "daemon/cache/events.h"

namespace weightd {

// Writes what happens in the cache to the log, one line an event.
void LogEvent(const cache::Event& event);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_EVENT_LINES_H_
