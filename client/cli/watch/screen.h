#ifndef WEIGHTD_CLIENT_CLI_WATCH_SCREEN_H_
#define WEIGHTD_CLIENT_CLI_WATCH_SCREEN_H_

#include <cstddef>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cli/watch/paint.h"
#include "weightd/v1/admin.pb.h"

// What `weightctl watch` shows on a terminal, as a function of what the daemon said.

namespace weightd::cli {

// What is known of a daemon at one moment.
struct WatchView {
  v1::GetStatusResponse status;
  // By name.
  std::vector<v1::ModelSummary> models;
  std::vector<v1::ConfiguredModel> configured;
  // Bytes a second, by ModelSummary::model, of those that load.
  std::map<std::string, double> rates;
  // Oldest first.
  std::deque<v1::WatchEventsResponse> events;
  // When all but the events came; the past if nothing did yet.
  absl::Time answered_at = absl::InfinitePast();
  // Why the daemon doesn't answer, and since when; OK while it does.
  absl::Status trouble;
  absl::Time trouble_since = absl::InfiniteFuture();
};

struct ScreenSize {
  size_t columns = 80;
  size_t rows = 24;
};

// At most `size.rows` lines of at most `size.columns` characters, without line ends. Where there is
// more than fits, each part says how much.
std::vector<std::string> RenderScreen(const WatchView& view, absl::Time now, const ScreenSize& size,
                                      const Style& style);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_WATCH_SCREEN_H_
