#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/event_text.h"
#include "client/cli/text.h"
#include "client/cli/watch/sections.h"

namespace weightd::cli {
namespace {

constexpr size_t kMostName = 24;
constexpr size_t kLeastModel = 12;
constexpr size_t kBar = 10;
// Where a line has room for a bar beside the numbers.
constexpr size_t kColumnsForBar = 76;

bool IsKept(const v1::ConfiguredModel& model) {
  return model.state() == v1::ConfiguredModel::ON_DEMAND ||
         model.state() == v1::ConfiguredModel::READY ||
         // Models show it, unless it is yet another try.
         (model.state() == v1::ConfiguredModel::LOADING && model.failures() == 0);
}

std::string StateText(const v1::ConfiguredModel& model, absl::Time now) {
  std::string state = v1::ConfiguredModel::State_IsValid(model.state())
                          ? absl::AsciiStrToLower(v1::ConfiguredModel::State_Name(model.state()))
                          : "unknown";
  if (model.state() == v1::ConfiguredModel::RETRYING && model.has_next_try_at()) {
    const absl::Duration until = std::max(absl::ZeroDuration(), TimeOf(model.next_try_at()) - now);
    absl::StrAppend(&state, " in ", DurationText(absl::Ceil(until, absl::Seconds(1))));
  }
  return state;
}

Line ListenerLine(const v1::ListenerStatus& listener, size_t name_width, size_t columns,
                  const Style& style) {
  Line line;
  line.Add(KeepEnd(listener.name(), name_width, style)).PadTo(name_width + 2);
  line.Add(absl::StrCat(listener.sessions(),
                        listener.sessions() == 1 ? " session  " : " sessions  ", listener.leases(),
                        listener.leases() == 1 ? " lease  " : " leases  "));
  const uint64_t held = listener.leased_bytes() + listener.draining_bytes();
  if (listener.max_bytes() > 0 && columns >= kColumnsForBar) {
    const auto part = [&](uint64_t bytes) {
      return static_cast<double>(bytes) / static_cast<double>(listener.max_bytes());
    };
    AddBar({{part(listener.leased_bytes()), Ink::kResident},
            {part(listener.draining_bytes()), Ink::kDraining}},
           kBar, style, line);
    line.Add("  ");
  }
  line.Add(BytesText(held));
  if (listener.max_bytes() > 0) {
    line.Add(absl::StrCat(" of ", BytesText(listener.max_bytes())));
  }
  if (listener.draining_bytes() > 0) {
    line.Add(absl::StrCat("  draining ", BytesText(listener.draining_bytes())), Ink::kDraining);
  }
  return line;
}

// Without what would push a name's end and the numbers off the screen.
std::string ShortText(v1::Event event, const WatchView& view, size_t columns, const Style& style) {
  for (const v1::ModelSummary& model : view.models) {
    if (model.model() == event.model() && !model.aliases().empty()) {
      event.set_model(model.aliases(0));
      break;
    }
  }
  event.set_model(KeepEnd(event.model(), std::max(kLeastModel, columns / 3), style));
  event.clear_revision();
  return EventText(event);
}

}  // namespace

std::vector<Line> ConfiguredLines(const WatchView& view, absl::Time now, size_t columns,
                                  const Style& style) {
  std::vector<Line> lines;
  lines.emplace_back();
  for (const v1::ConfiguredModel& model : view.configured) {
    if (IsKept(model)) {
      continue;
    }
    Line line;
    const size_t width = std::clamp(columns / 3, size_t{8}, kMostName);
    line.Add(KeepEnd(model.name(), width, style)).PadTo(width + 2);
    line.Add(StateText(model, now), Ink::kBad);
    if (model.failures() > 0) {
      line.Add(
          absl::StrCat("  failed ", model.failures(), model.failures() == 1 ? " time" : " times"));
    }
    if (!model.last_error().empty()) {
      line.Add(absl::StrCat(": ", model.last_error()));
    }
    lines.push_back(std::move(line));
  }
  if (lines.size() == 1) {
    return {};
  }
  lines.front().Add(absl::StrCat("CONFIGURED, NOT READY (", lines.size() - 1, ")"), Ink::kBold);
  return lines;
}

std::vector<Line> ListenerLines(const v1::GetStatusResponse& status, size_t columns,
                                const Style& style) {
  std::vector<Line> lines;
  lines.reserve(1 + status.listeners_size());
  lines.push_back(
      Line().Add(absl::StrCat("LISTENERS (", status.listeners_size(), ")"), Ink::kBold));
  size_t name_width = 0;
  for (const v1::ListenerStatus& listener : status.listeners()) {
    name_width = std::max(name_width, DisplayWidth(listener.name()));
  }
  name_width = std::min(name_width, std::clamp(columns / 4, size_t{8}, kMostName));
  for (const v1::ListenerStatus& listener : status.listeners()) {
    lines.push_back(ListenerLine(listener, name_width, columns, style));
  }
  return lines;
}

std::vector<Line> EventLines(const WatchView& view, size_t columns, const Style& style) {
  std::vector<Line> lines;
  lines.reserve(1 + view.events.size());
  lines.push_back(Line().Add("LAST EVENTS", Ink::kBold));
  for (const v1::WatchEventsResponse& watched : view.events) {
    Line line;
    line.Add(absl::FormatTime("%H:%M:%S", TimeOf(watched.event().time()), absl::UTCTimeZone()),
             Ink::kDim);
    if (watched.lost() > 0) {
      line.Add(absl::StrCat("  (", watched.lost(), " lost before)"), Ink::kBad);
    }
    line.Add(absl::StrCat("  ", ShortText(watched.event(), view, columns, style)),
             watched.event().has_error() ? Ink::kBad : Ink::kPlain);
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace weightd::cli
