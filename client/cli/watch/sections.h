#ifndef WEIGHTD_CLIENT_CLI_WATCH_SECTIONS_H_
#define WEIGHTD_CLIENT_CLI_WATCH_SECTIONS_H_

#include <cstddef>
#include <vector>

#include "absl/time/time.h"
#include "client/cli/watch/paint.h"
#include "client/cli/watch/screen.h"

// The parts of the screen, each as lines from top to bottom. Lines may be longer than `columns`,
// where nothing of worth is at their end: who paints them cuts them.

namespace weightd::cli {

// Of the host, then of each GPU: a bar of its budget.
std::vector<Line> TierLines(const v1::GetStatusResponse& status, size_t columns,
                            const Style& style);

// Titles, and a line for each model: those that load first, as they are what changes.
std::vector<Line> ModelLines(const WatchView& view, size_t columns, const Style& style);

// Titles, and a line for each promise of the config that isn't kept; empty if all are.
std::vector<Line> ConfiguredLines(const WatchView& view, absl::Time now, size_t columns,
                                  const Style& style);

std::vector<Line> ListenerLines(const v1::GetStatusResponse& status, size_t columns,
                                const Style& style);

// A title, and a line for each event, oldest first.
std::vector<Line> EventLines(const WatchView& view, size_t columns, const Style& style);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_WATCH_SECTIONS_H_
