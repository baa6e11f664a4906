#ifndef WEIGHTD_DAEMON_LOGGING_H_
#define WEIGHTD_DAEMON_LOGGING_H_

#include <concepts>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// One line on stderr for each thing worth knowing: an event with a stable name ("load.finished")
// and fields. Never a session token, never a query or user info of a URI.

namespace weightd {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kJson, kText };

// The names that the config has for them.
absl::StatusOr<LogLevel> LogLevelFromName(absl::string_view name);
absl::StatusOr<LogFormat> LogFormatFromName(absl::string_view name);
absl::string_view NameOf(LogLevel level);

class LogField {
 public:
  // Of a text of more than 1,024 bytes its beginning, marked as cut.
  LogField(absl::string_view key, absl::string_view text);
  LogField(absl::string_view key, const char* text) : LogField(key, absl::string_view(text)) {}
  template <std::integral Number>
  LogField(absl::string_view key, Number number)
      : key_(key), value_(absl::StrCat(number)), is_number_(true) {}
  // With six digits; null for what is no number.
  LogField(absl::string_view key, double number);
  LogField(absl::string_view key, bool) = delete;

 private:
  friend std::string LogLine(LogFormat, absl::string_view, LogLevel, absl::string_view,
                             absl::Span<const LogField>);
  std::string key_;
  std::string value_;
  bool is_number_;
};

// The line as it is written, without its end. `time` is RFC 3339.
std::string LogLine(LogFormat format, absl::string_view time, LogLevel level,
                    absl::string_view event, absl::Span<const LogField> fields);

// Once, before the first Log. A thread of its own writes from then on: nobody waits for a reader of
// stderr, and lines that it is too slow for are lost, the oldest first.
void StartLogging(LogLevel least, LogFormat format);
// Writes what waits.
void StopLogging();

// From any thread; nothing before StartLogging and after StopLogging.
void Log(LogLevel level, absl::string_view event, absl::Span<const LogField> fields = {});
// A line of level info that is written whatever the level: one that nobody may turn off.
void LogAlways(absl::string_view event, absl::Span<const LogField> fields);

// The least level that is written.
LogLevel CurrentLogLevel();
// Another one from now on, by its name; says so in the log and returns the name of the one before.
absl::StatusOr<std::string> ChangeLogLevel(absl::string_view name);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_LOGGING_H_
