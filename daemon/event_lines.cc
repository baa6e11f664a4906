#include "daemon/event_lines.h"

#include "absl/strings/string_view.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

struct Line {
  LogLevel level;
  absl::string_view name;
};

Line LineOf(cache::EventKind kind) {
  switch (kind) {
    case cache::EventKind::kLoadStarted:
      return {LogLevel::kInfo, "load.started"};
    case cache::EventKind::kLoadFinished:
      return {LogLevel::kInfo, "load.finished"};
    case cache::EventKind::kLoadFailed:
      return {LogLevel::kWarning, "load.failed"};
    case cache::EventKind::kLeaseGranted:
      return {LogLevel::kDebug, "lease.granted"};
    case cache::EventKind::kLeaseEnded:
      return {LogLevel::kDebug, "lease.ended"};
    case cache::EventKind::kEvicted:
      return {LogLevel::kInfo, "model.evicted"};
    case cache::EventKind::kDrained:
      return {LogLevel::kInfo, "model.drained"};
    case cache::EventKind::kPinned:
      return {LogLevel::kInfo, "model.pinned"};
    case cache::EventKind::kUnpinned:
      return {LogLevel::kInfo, "model.unpinned"};
    case cache::EventKind::kSuperseded:
      return {LogLevel::kInfo, "model.superseded"};
    case cache::EventKind::kStale:
      return {LogLevel::kWarning, "model.stale"};
    case cache::EventKind::kGpuCopied:
      return {LogLevel::kInfo, "gpu.copied"};
    case cache::EventKind::kGpuDropped:
      return {LogLevel::kInfo, "gpu.dropped"};
    case cache::EventKind::kGpuLost:
      return {LogLevel::kError, "gpu.lost"};
  }
  return {LogLevel::kWarning, "event.unknown"};
}

}  // namespace

void LogEvent(const cache::Event& event) {
  const Line line = LineOf(event.kind);
  // The loss of a GPU is of no model.
  const std::string model = event.uri == Uri() ? "" : event.uri.Redacted();
  if (event.gpu.has_value()) {
    const std::string gpu = event.gpu->ToText();
    if (event.error.ok()) {
      Log(line.level, line.name, {{"model", model}, {"gpu", gpu}, {"bytes", event.bytes}});
    } else {
      Log(line.level, line.name,
          {{"model", model}, {"gpu", gpu}, {"error", event.error.message()}});
    }
  } else if (!event.error.ok()) {
    Log(line.level, line.name, {{"model", model}, {"error", event.error.message()}});
  } else if (event.lease != LeaseId()) {
    Log(line.level, line.name, {{"model", model}, {"lease", event.lease.value()}});
  } else {
    Log(line.level, line.name,
        {{"model", model}, {"revision", event.revision.hex()}, {"bytes", event.bytes}});
  }
}

}  // namespace weightd
