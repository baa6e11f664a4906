#include "client/cli/watch/screen.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "client/cli/watch/sections.h"

namespace weightd::cli {
namespace {

// A part of the screen, the rows that it is given first, and which end is left out if it is longer.
struct Section {
  std::vector<Line> lines;
  size_t least;
  bool keeps_end = false;
  size_t rows = 0;
};

std::string Counted(uint64_t count, absl::string_view what) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
}

Line HeadLine(const WatchView& view, absl::Time now, size_t columns) {
  if (view.answered_at == absl::InfinitePast()) {
    return Line().Add("weightd: waiting for its first answer");
  }
  const v1::GetStatusResponse& status = view.status;
  Line line;
  line.Add(absl::StrCat("weightd ", status.version()), Ink::kBold);
  line.Add(absl::StrCat("  up ", DurationText(absl::Seconds(status.uptime().seconds())), "  ",
                        Counted(status.sessions(), "session"), "  ",
                        Counted(status.leases(), "lease"), "  ",
                        Counted(status.loads_running(), "load")));
  line.Add(status.draining() ? "  draining" : "", Ink::kBad);
  const std::string clock = absl::FormatTime("%H:%M:%SZ", now, absl::UTCTimeZone());
  if (line.width() + 2 + clock.size() <= columns) {
    line.PadTo(columns - clock.size()).Add(clock, Ink::kDim);
  }
  return line;
}

Line TroubleLine(const WatchView& view, absl::Time now) {
  return Line().Add(
      absl::StrCat("no answer since ",
                   DurationText(std::max(absl::ZeroDuration(), now - view.trouble_since)), ": ",
                   view.trouble.message()),
      Ink::kBad);
}

// In order, first what each needs at least, then the rest.
void ShareRows(std::vector<Section>& sections, size_t rows) {
  const auto give = [&rows](Section& section, size_t most) {
    const size_t wanted = std::min(section.lines.size(), most);
    const size_t more = std::min(rows, wanted > section.rows ? wanted - section.rows : 0);
    section.rows += more;
    rows -= more;
  };
  for (Section& section : sections) {
    give(section, section.least);
  }
  for (Section& section : sections) {
    give(section, section.lines.size());
  }
}

void Append(Section section, std::vector<Line>& screen) {
  std::vector<Line>& lines = section.lines;
  // A title alone says nothing.
  if (section.rows < std::min<size_t>(lines.size(), 2)) {
    return;
  }
  const size_t left_out = lines.size() - section.rows;
  if (left_out > 0 && section.keeps_end) {
    lines.erase(lines.begin() + 1, lines.begin() + 1 + static_cast<std::ptrdiff_t>(left_out));
  } else if (left_out > 0) {
    lines.resize(section.rows);
    // The last line that would fit makes room for this one.
    lines.back() = Line().Add(absl::StrCat("and ", left_out + 1, " more"), Ink::kDim);
  }
  std::move(lines.begin(), lines.end(), std::back_inserter(screen));
}

}  // namespace

std::vector<std::string> RenderScreen(const WatchView& view, absl::Time now, const ScreenSize& size,
                                      const Style& style) {
  std::vector<Line> screen;
  screen.push_back(HeadLine(view, now, size.columns));
  if (!view.trouble.ok()) {
    screen.push_back(TroubleLine(view, now));
  }
  std::vector<Section> sections;
  sections.push_back({TierLines(view.status, size.columns, style), 5});
  sections.push_back({ModelLines(view, size.columns, style), 5});
  sections.push_back({ConfiguredLines(view, now, size.columns, style), 3});
  sections.push_back({ListenerLines(view.status, size.columns, style), 3});
  sections.push_back({EventLines(view, size.columns, style), 4, /*keeps_end=*/true});
  ShareRows(sections, size.rows > screen.size() ? size.rows - screen.size() : 0);
  for (Section& section : sections) {
    Append(std::move(section), screen);
  }
  std::vector<std::string> painted;
  painted.reserve(screen.size());
  for (const Line& line : screen) {
    painted.push_back(line.Paint(size.columns, style));
  }
  painted.resize(std::min(painted.size(), size.rows));
  return painted;
}

}  // namespace weightd::cli
