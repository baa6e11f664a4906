#ifndef WEIGHTD_CLIENT_CLI_WATCH_PAINT_H_
#define WEIGHTD_CLIENT_CLI_WATCH_PAINT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

// Lines of a terminal: text in colours, and bars, never wider than the terminal.

namespace weightd::cli {

// What a terminal can show.
struct Style {
  bool colours = true;
  // Blocks for bars, and names as they are; else ASCII alone.
  bool utf8 = true;
};

enum class Ink { kPlain, kBold, kDim, kResident, kLoading, kDraining, kReady, kBad };

// One line, made from left to right.
class Line {
 public:
  Line& Add(absl::string_view text, Ink ink = Ink::kPlain);
  // Blanks up to this column; nothing if the line is there already.
  Line& PadTo(size_t column);
  size_t width() const { return width_; }
  // What a terminal is sent: at most `columns` characters, colours ended.
  std::string Paint(size_t columns, const Style& style) const;

 private:
  struct Span {
    std::string text;
    Ink ink;
  };
  std::vector<Span> spans_;
  size_t width_ = 0;
};

// A part of a bar, from left to right; all fractions together are at most 1.
struct BarPart {
  double fraction;
  Ink ink;
};

// The character that stands for a part of this kind.
absl::string_view Block(Ink ink, const Style& style);

// "[####==   ]", `width` characters between the brackets. A part that isn't empty is seen.
void AddBar(const std::vector<BarPart>& parts, size_t width, const Style& style, Line& line);

// At most `columns` characters, the first ones left out: ends tell names apart.
std::string KeepEnd(absl::string_view text, size_t columns, const Style& style);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_WATCH_PAINT_H_
