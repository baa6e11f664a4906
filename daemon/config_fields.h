#ifndef WEIGHTD_DAEMON_CONFIG_FIELDS_H_
#define WEIGHTD_DAEMON_CONFIG_FIELDS_H_

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/config_yaml.h"
#include "google/protobuf/message.h"

namespace weightd {

// Where the fields of a config stand in its file, by path ("listeners[1].mode"). Makes the errors
// that name them.
class FieldLines {
 public:
  explicit FieldLines(std::string file_name) : file_name_(std::move(file_name)) {}

  void Add(std::string path, int line) { lines_[std::move(path)] = line; }

  // "file:line: path: rule", with the line of the field, or else of what it would be in. `hint`
  // says what to do.
  absl::Status ErrorAt(absl::string_view path, absl::string_view rule,
                       absl::string_view hint = {}) const;

 private:
  std::string file_name_;
  absl::flat_hash_map<std::string, int> lines_;
};

// Fills `message` from a map of YAML by reflection: keys are field names, field options say how
// numbers are written (see config.proto). Unknown keys and values of the wrong form are errors.
absl::Status FillMessage(const YamlNode& node, google::protobuf::Message& message,
                         FieldLines& lines);

// The way back; fields that have no value are left out.
YamlNode DescribeMessage(const google::protobuf::Message& message);

// "60s", "1h30m", … above zero and at most a year; false otherwise.
bool ParsePositiveDuration(absl::string_view text, absl::Duration& duration);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_FIELDS_H_
