#include "client/cli/watch/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/cli/text.h"

namespace weightd::cli {
namespace {

// As xterm's control sequences name them, and every terminal since: alternate screen, hidden
// cursor, no wrapping of lines that a terminal takes for longer than we do.
constexpr absl::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
constexpr absl::string_view kLeave = "\x1b[?7h\x1b[?25h\x1b[?1049l";

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// A signal ends it early: who asked for the end isn't kept by a terminal that takes nothing.
void Write(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written <= 0) {
      return;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

// Without what sets colours.
size_t WidthOfPainted(absl::string_view line) {
  size_t width = 0;
  while (!line.empty()) {
    const size_t colour = std::min(line.find('\x1b'), line.size());
    width += DisplayWidth(line.substr(0, colour));
    line.remove_prefix(colour);
    line.remove_prefix(line.empty() ? 0 : std::min(line.find('m') + 1, line.size()));
  }
  return width;
}

}  // namespace

bool CanDraw() {
  const std::string terminal = Variable("TERM");
  return isatty(STDOUT_FILENO) == 1 && !terminal.empty() && terminal != "dumb";
}

Style StyleOfEnvironment() {
  // In the order of locale(7). The variable decides, not the C library: where it has no such locale
  // (slim images), the terminal still has the user's encoding.
  std::string locale;
  for (const char* const name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    locale = locale.empty() ? absl::AsciiStrToLower(Variable(name)) : locale;
  }
  return {.colours = Variable("NO_COLOR").empty(),
          .utf8 = absl::StrContains(locale, "utf-8") || absl::StrContains(locale, "utf8")};
}

Terminal::Terminal() { Enter(); }

Terminal::~Terminal() { Leave(); }

ScreenSize Terminal::Size() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return {};
  }
  return {size.ws_col, size.ws_row};
}

void Terminal::Draw(const std::vector<std::string>& lines, const ScreenSize& size) {
  std::string screen = "\x1b[H";
  for (size_t i = 0; i < lines.size(); ++i) {
    // After a line that is full the cursor is still on its last character, which this would clear.
    const bool is_full = WidthOfPainted(lines[i]) >= size.columns;
    absl::StrAppend(&screen, i == 0 ? "" : "\r\n", lines[i], is_full ? "" : "\x1b[K");
  }
  if (lines.size() < size.rows) {
    absl::StrAppend(&screen, "\r\n\x1b[J");
  }
  Write(screen);
}

void Terminal::Enter() {
  if (entered_) {
    return;
  }
  entered_ = true;
  has_keys_ = isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &before_) == 0;
  if (has_keys_) {
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
  }
  Write(kEnter);
}

void Terminal::Leave() {
  if (!entered_) {
    return;
  }
  entered_ = false;
  Write(kLeave);
  if (has_keys_) {
    tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
}

}  // namespace weightd::cli
