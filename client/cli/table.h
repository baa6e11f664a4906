#ifndef WEIGHTD_CLIENT_CLI_TABLE_H_
#define WEIGHTD_CLIENT_CLI_TABLE_H_

#include <ostream>
#include <string>
#include <vector>

namespace weightd::cli {

// Rows under a line of titles, in columns two spaces apart. Nothing else is drawn, so that other
// tools can cut it.
class Table {
 public:
  struct Column {
    std::string title;
    // Numbers read better flush right.
    bool right = false;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell for each column: missing ones are empty, shown as "-"; more are dropped.
  void AddRow(std::vector<std::string> cells);
  void Print(std::ostream& out) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_TABLE_H_
