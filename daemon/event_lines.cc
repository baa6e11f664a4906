#include "daemon/event_lines.h"

#include <string>
#include <vector>

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
  std::vector<LogField> fields = {{"model", model}};
  if (event.gpu.has_value()) {
    fields.emplace_back("gpu", event.gpu->ToText());
  } else if (event.error.ok() && event.lease != LeaseId()) {
    fields.emplace_back("lease", event.lease.value());
  } else if (event.error.ok()) {
    fields.emplace_back("revision", event.revision.hex());
  }
  if (!event.error.ok()) {
    fields.emplace_back("error", event.error.message());
  } else if (event.lease == LeaseId()) {
    fields.emplace_back("bytes", event.bytes);
  }
  if (!event.request_id.empty()) {
    fields.emplace_back("request_id", event.request_id);
  }
  Log(line.level, line.name, fields);
}

}  // namespace weightd
