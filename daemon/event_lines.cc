#include "daemon/event_lines.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "common/ids.h"
#include "common/status.h"
#include "common/uri.h"

namespace weightd {
namespace {

// A load has two lines.
constexpr LineMeter::Rate kLoadsOfUser = {200, 2};
constexpr LineMeter::Rate kLoadsOfListener = {800, 10};

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
    case cache::EventKind::kReadopted:
      return {LogLevel::kInfo, "model.readopted"};
    case cache::EventKind::kNotReadopted:
      return {LogLevel::kWarning, "model.not_readopted"};
    case cache::EventKind::kNotKept:
      return {LogLevel::kWarning, "model.not_kept"};
    case cache::EventKind::kNodeDraining:
      return {LogLevel::kInfo, "node.draining"};
    case cache::EventKind::kNodeDrained:
      return {LogLevel::kInfo, "node.drained"};
    case cache::EventKind::kNodeResumed:
      return {LogLevel::kInfo, "node.resumed"};
  }
  return {LogLevel::kWarning, "event.unknown"};
}

// What the next daemon finds, or this one did: nobody else tells what to do about it.
bool IsOfTheKeeper(cache::EventKind kind) {
  return kind == cache::EventKind::kNotReadopted || kind == cache::EventKind::kNotKept;
}

}  // namespace

EventLine EventLineOf(const cache::Event& event) {
  Line line = LineOf(event.kind);
  if (event.unknown_descriptors > 0) {
    line.name = "keeper.unknown";
  }
  // The loss of a GPU is of no model.
  std::vector<LogField> fields;
  if (event.uri != Uri()) {
    fields.emplace_back("model", event.uri.Redacted());
  }
  if (event.gpu.has_value()) {
    fields.emplace_back("gpu", event.gpu->ToText());
  } else if (event.error.ok() && event.lease != LeaseId()) {
    fields.emplace_back("lease", event.lease.value());
  } else if (event.error.ok() && !event.revision.empty()) {
    fields.emplace_back("revision", event.revision.hex());
  }
  if (!event.error.ok()) {
    fields.emplace_back("error", event.error.message());
    if (IsOfTheKeeper(event.kind)) {
      fields.emplace_back("hint", HintOf(event.error));
    }
  } else if (event.lease == LeaseId() && event.bytes > 0) {
    fields.emplace_back("bytes", event.bytes);
  }
  if (event.handed.has_value()) {
    fields.emplace_back("kept_models", event.handed->kept_models);
    fields.emplace_back("lost_models", event.handed->lost_models);
  }
  if (!event.request_id.empty()) {
    fields.emplace_back("request_id", event.request_id);
  }
  return {line.level, line.name, std::move(fields)};
}

EventLines::EventLines() : loads_(kLoadsOfUser, kLoadsOfListener) {}

void EventLines::Happened(const cache::Event& event) {
  if (Admit(event)) {
    const EventLine line = EventLineOf(event);
    Log(line.level, line.name, line.fields);
  }
}

void EventLines::WriteLeftOut() {
  absl::MutexLock lock(&mutex_);
  WriteLeftOutBy(absl::Now());
}

bool EventLines::Admit(const cache::Event& event) {
  if (!event.client.has_value()) {
    return true;
  }
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mutex_);
  const bool write = loads_.Admit(event.client->listener, event.client->uid, now);
  if (clock_.Strikes(now)) {
    WriteLeftOutBy(now);
  }
  return write;
}

void EventLines::WriteLeftOutBy(absl::Time now) {
  for (const auto& [who, lines] : loads_.TakeLeftOut(now)) {
    Log(LogLevel::kInfo, "load.left_out", {{"who", who}, {"lines", lines}});
  }
}

}  // namespace weightd
