#include "absl/time/time.h"
#include "client/cli/event_text.h"
#include "client/cli/reports.h"
#include "common/printable_text.h"

namespace weightd::cli {

void PrintEvent(const v1::WatchEventsResponse& watched, std::ostream& out) {
  if (watched.lost() != 0) {
    out << "(" << watched.lost() << " events lost: this reader is too slow)\n";
  }
  out << absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", TimeOf(watched.event().time()),
                          absl::UTCTimeZone())
      << ' ' << PrintableText(EventText(watched.event()))
      << '\n'
      // Somebody waits for it.
      << std::flush;
}

}  // namespace weightd::cli
