#ifndef WEIGHTD_CLIENT_CLI_WATCH_TERMINAL_H_
#define WEIGHTD_CLIENT_CLI_WATCH_TERMINAL_H_

#include <termios.h>

#include <string>
#include <vector>

#include "client/cli/watch/paint.h"
#include "client/cli/watch/screen.h"

namespace weightd::cli {

// What standard output can show, by TERM, NO_COLOR (https://no-color.org) and the locale; nothing
// can be drawn on a "dumb" terminal, or where output is no terminal.
bool CanDraw();
Style StyleOfEnvironment();

// Standard output as a screen of its own: the alternate one, without a cursor, keys unseen. What
// was there before is there again when this ends. One at a time.
class Terminal {
 public:
  Terminal();
  ~Terminal();
  Terminal(const Terminal&) = delete;

  static ScreenSize Size();
  // Replaces the screen without clearing it before, which would flicker.
  void Draw(const std::vector<std::string>& lines, const ScreenSize& size);
  // Gives the terminal to the shell for a while, and takes it again.
  void Leave();
  void Enter();

 private:
  bool entered_ = false;
  bool has_keys_ = false;
  termios before_ = {};
};

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_WATCH_TERMINAL_H_
