#include "client/cli/watch/live.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/text.h"
#include "client/cli/watch/feed.h"
#include "client/cli/watch/screen.h"
#include "client/cli/watch/signals.h"
#include "client/cli/watch/terminal.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

// At most four times a second, and once a second for the clock.
constexpr absl::Duration kLeastPause = absl::Milliseconds(250);
constexpr absl::Duration kMostPause = absl::Seconds(1);
// A call may take this long, and so may our end.
constexpr absl::Duration kCallTimeout = absl::Seconds(2);
constexpr char kEndOfInput = 4;

// What interrupted a wait.
struct Woken {
  bool by_news = false;
  bool by_signal = false;
  bool leaves = false;
};

// A descriptor that is -1 is not waited for. `keys` becomes that when it has no more.
Woken WaitFor(absl::Duration duration, int news, const Signals& signals, int& keys) {
  std::array<pollfd, 3> waits = {
      {{news, POLLIN, 0}, {signals.caught(), POLLIN, 0}, {keys, POLLIN, 0}}};
  const auto milliseconds =
      static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1))));
  if (poll(waits.data(), waits.size(), std::max(0, milliseconds)) < 0) {
    return {.by_signal = true};
  }
  Woken woken = {.by_news = waits[0].revents != 0, .by_signal = waits[1].revents != 0};
  if (waits[2].revents != 0) {
    char key = 0;
    if (read(keys, &key, 1) != 1) {
      keys = -1;
    }
    woken.leaves = keys >= 0 && (key == 'q' || key == 'Q' || key == kEndOfInput);
  }
  return woken;
}

absl::Status GaveUp(const WatchView& view, absl::Duration patience) {
  return Error(ReasonOf(view.trouble),
               absl::StrCat("the daemon has not answered for ", DurationText(patience), ": ",
                            view.trouble.message()),
               HintOf(view.trouble));
}

void Pause(Terminal& terminal) {
  terminal.Leave();
  static_cast<void>(std::raise(SIGSTOP));
  terminal.Enter();
}

}  // namespace

absl::Status WatchLive(const client::AdminClient::Options& options, absl::Duration patience) {
  Signals signals;
  client::AdminClient::Options quick = options;
  quick.timeout = std::min(options.timeout, kCallTimeout);
  ASSIGN_OR_RETURN(client::AdminClient daemon, client::AdminClient::Connect(quick));
  Feed feed(std::move(daemon), std::move(quick));
  signals.Deliver();
  const Style style = StyleOfEnvironment();
  Terminal terminal;
  int keys = isatty(STDIN_FILENO) == 1 ? STDIN_FILENO : -1;
  absl::Time drawn = absl::InfinitePast();
  bool is_old = true;
  while (!signals.end()) {
    const absl::Time now = absl::Now();
    if (is_old && now >= drawn + kLeastPause) {
      const WatchView view = feed.Look();
      if (now - view.trouble_since > patience) {
        return GaveUp(view, patience);
      }
      const ScreenSize size = Terminal::Size();
      terminal.Draw(RenderScreen(view, now, size, style), size);
      drawn = now;
      is_old = false;
    }
    // The descriptor stays readable until news are drawn: once they are known, only time counts.
    const absl::Time next = drawn + (is_old ? kLeastPause : kMostPause);
    const Woken woken = WaitFor(next - now, is_old ? -1 : feed.news(), signals, keys);
    if (woken.leaves) {
      break;
    }
    if (woken.by_signal) {
      signals.Clear();
      if (signals.TakePause()) {
        Pause(terminal);
      }
      // A new size is drawn at once.
      drawn = absl::InfinitePast();
    }
    is_old = is_old || woken.by_news || woken.by_signal || absl::Now() >= drawn + kMostPause;
  }
  return absl::OkStatus();
}

}  // namespace weightd::cli
