#include "client/cli/watch/paint.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "client/cli/text.h"
#include "common/printable_text.h"

namespace weightd::cli {
namespace {

bool Continues(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Bytes of the first `count` characters.
size_t BytesOfCharacters(absl::string_view text, size_t count) {
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if (!Continues(text[at]) && count-- == 0) {
      break;
    }
  }
  return at;
}

std::string AsciiOnly(absl::string_view text) {
  std::string ascii;
  ascii.reserve(text.size());
  for (const char c : text) {
    if (!Continues(c)) {
      ascii.push_back(static_cast<unsigned char>(c) < 0x80 ? c : '?');
    }
  }
  return ascii;
}

// SGR parameters (ECMA-48, 8.3.117); empty for none.
absl::string_view Colour(Ink ink) {
  switch (ink) {
    case Ink::kBold:
      return "1";
    case Ink::kDim:
    case Ink::kReady:
      return "2";
    case Ink::kResident:
      return "32";
    case Ink::kLoading:
      return "36";
    case Ink::kDraining:
      return "33";
    case Ink::kBad:
      return "31";
    case Ink::kPlain:
      break;
  }
  return "";
}

}  // namespace

Line& Line::Add(absl::string_view text, Ink ink) {
  // Names come from outside: nothing of them may reach the terminal as a command.
  std::string printable = PrintableText(text);
  width_ += DisplayWidth(printable);
  spans_.push_back({std::move(printable), ink});
  return *this;
}

Line& Line::PadTo(size_t column) {
  if (column > width_) {
    Add(std::string(column - width_, ' '));
  }
  return *this;
}

std::string Line::Paint(size_t columns, const Style& style) const {
  std::string painted;
  for (const Span& span : spans_) {
    const std::string text = style.utf8 ? span.text : AsciiOnly(span.text);
    const absl::string_view shown =
        absl::string_view(text).substr(0, BytesOfCharacters(text, columns));
    columns -= DisplayWidth(shown);
    const absl::string_view colour = style.colours ? Colour(span.ink) : "";
    if (colour.empty() || shown.empty()) {
      absl::StrAppend(&painted, shown);
    } else {
      absl::StrAppend(&painted, "\x1b[", colour, "m", shown, "\x1b[0m");
    }
  }
  return painted;
}

absl::string_view Block(Ink ink, const Style& style) {
  switch (ink) {
    case Ink::kResident:
      return style.utf8 ? "█" : "#";
    case Ink::kLoading:
      return style.utf8 ? "▓" : "=";
    case Ink::kDraining:
      return style.utf8 ? "▒" : "-";
    case Ink::kReady:
      return style.utf8 ? "░" : ".";
    default:
      return " ";
  }
}

void AddBar(const std::vector<BarPart>& parts, size_t width, const Style& style, Line& line) {
  line.Add("[");
  size_t drawn = 0;
  double until = 0;
  for (const BarPart& part : parts) {
    if (part.fraction <= 0) {
      continue;
    }
    until += part.fraction;
    const auto end = static_cast<size_t>(std::lround(until * static_cast<double>(width)));
    const size_t cells =
        std::min(width - drawn, std::max<size_t>(1, end > drawn ? end - drawn : 0));
    std::string blocks;
    for (size_t i = 0; i < cells; ++i) {
      absl::StrAppend(&blocks, Block(part.ink, style));
    }
    line.Add(blocks, part.ink);
    drawn += cells;
  }
  line.Add(absl::StrCat(std::string(width - drawn, ' '), "]"));
}

std::string KeepEnd(absl::string_view text, size_t columns, const Style& style) {
  std::string printable = PrintableText(text);
  const size_t width = DisplayWidth(printable);
  if (width <= columns) {
    return printable;
  }
  if (columns == 0) {
    return "";
  }
  const size_t left_out = BytesOfCharacters(printable, width - (columns - 1));
  return absl::StrCat(style.utf8 ? "…" : "~", printable.substr(left_out));
}

}  // namespace weightd::cli
