#ifndef WEIGHTD_DAEMON_LOGGING_H_
#define WEIGHTD_DAEMON_LOGGING_H_

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// One line on stderr for each thing worth knowing: an event with a stable name ("load.finished")
// and fields. Never a session token, never a query or user info of a URI.

namespace weightd {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kJson, kText };

// The names that the config has for them.
absl::StatusOr<LogLevel> LogLevelFromName(absl::string_view name);
absl::StatusOr<LogFormat> LogFormatFromName(absl::string_view name);

class LogField {
 public:
  LogField(absl::string_view key, absl::string_view text);
  LogField(absl::string_view key, const char* text) : LogField(key, absl::string_view(text)) {}
  LogField(absl::string_view key, uint64_t number);

 private:
  friend std::string LogLine(LogFormat, absl::string_view, LogLevel, absl::string_view,
                             std::initializer_list<LogField>);
  std::string key_;
  std::string value_;
  bool is_number_;
};

// The line as it is written, without its end. `time` is RFC 3339.
std::string LogLine(LogFormat format, absl::string_view time, LogLevel level,
                    absl::string_view event, std::initializer_list<LogField> fields);

// Once, before the first Log. A thread of its own writes from then on: nobody waits for a reader of
// stderr, and lines that it is too slow for are lost, the oldest first.
void StartLogging(LogLevel least, LogFormat format);
// From any thread, between the two: what is written from now on.
void SetLogLevel(LogLevel least);
// Writes what waits.
void StopLogging();

// From any thread; nothing before StartLogging and after StopLogging.
void Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields = {});

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_LOGGING_H_
