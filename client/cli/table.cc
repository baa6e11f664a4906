#include "client/cli/table.h"

#include <algorithm>
#include <utility>

#include "client/cli/text.h"
#include "common/printable_text.h"

namespace weightd::cli {

namespace {

// One row's long cell would make all rows as long.
std::string Elided(std::string cell) {
  constexpr size_t kMost = 160;
  constexpr size_t kKept = 76;
  if (cell.size() <= kMost) {
    return cell;
  }
  // Not within a character of several bytes.
  size_t head = kKept;
  size_t tail = cell.size() - kKept;
  const auto inside = [&cell](size_t at) {
    return (static_cast<unsigned char>(cell[at]) & 0xC0) == 0x80;
  };
  while (inside(head)) {
    --head;
  }
  while (inside(tail)) {
    ++tail;
  }
  return cell.substr(0, head) + "…" + cell.substr(tail);
}

}  // namespace

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) {
    cell = cell.empty() ? "-" : Elided(PrintableText(cell));
  }
  rows_.push_back(std::move(cells));
}

void Table::Print(std::ostream& out) const {
  std::vector<std::string> titles;
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    widths.push_back(DisplayWidth(columns_[i].title));
    for (const auto& row : rows_) {
      widths[i] = std::max(widths[i], DisplayWidth(row[i]));
    }
  }
  const auto print_row = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - DisplayWidth(cells[i]), ' ');
      const bool last = i + 1 == cells.size();
      out << (columns_[i].right ? padding : "") << cells[i]
          << (columns_[i].right || last ? "" : padding) << (last ? "\n" : "  ");
    }
  };
  print_row(titles);
  for (const auto& row : rows_) {
    print_row(row);
  }
}

}  // namespace weightd::cli
