#include "daemon/logging.h"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <optional>

#include "absl/base/attributes.h"
#include "absl/base/const_init.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "common/unseen_character.h"
#include "common/utf8.h"

namespace weightd {
namespace {

constexpr size_t kWaitingLines = 8192;
// Names and errors are as long as clients and stores make them.
constexpr size_t kMostTextBytes = 1024;

// Set by StartLogging, before any other thread logs.
std::atomic<LogFormat> format_in_use = LogFormat::kJson;
std::atomic<LogLevel> least_in_use = LogLevel::kInfo;
std::atomic<bool> started = false;
// Other threads still log while this one ends: shared for a line, alone for the end.
ABSL_CONST_INIT absl::Mutex ending(absl::kConstInit);

// A JSON string (RFC 8259, section 7) in which nothing is that a terminal obeys, or that hides or
// turns what a reader sees.
std::string Quoted(absl::string_view text) {
  std::string quoted = "\"";
  while (!text.empty()) {
    const std::optional<UnseenCharacter> unseen = UnseenAtFront(text);
    if (unseen.has_value()) {
      absl::StrAppendFormat(&quoted, "\\u%04x", unseen->code_point);
    } else {
      quoted += text.front() == '"' || text.front() == '\\' ? "\\" : "";
      quoted += text.front();
    }
    text.remove_prefix(unseen.has_value() ? unseen->bytes : 1);
  }
  return quoted + '"';
}

// The beginning of a text that is too long, between two characters, and how long it was.
std::string Cut(absl::string_view text) {
  if (text.size() <= kMostTextBytes) {
    return std::string(text);
  }
  size_t end = kMostTextBytes;
  while (end > kMostTextBytes - 4 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
    --end;
  }
  return absl::StrCat(text.substr(0, end), "… (cut: ", text.size(), " bytes)");
}

// Levels are ours: spdlog writes whatever gets this far.
void Write(LogLevel level, absl::string_view event, absl::Span<const LogField> fields) {
  const std::string time =
      absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  const std::string line = LogLine(format_in_use, time, level, event, fields);
  absl::ReaderMutexLock lock(&ending);
  if (started) {
    spdlog::info(spdlog::string_view_t(line.data(), line.size()));
  }
}

}  // namespace

absl::string_view NameOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

absl::StatusOr<LogLevel> LogLevelFromName(absl::string_view name) {
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (name == NameOf(level)) {
      return level;
    }
  }
  return Error(Reason::kInvalidArgument, absl::StrCat("log level \"", absl::CEscape(name),
                                                      "\" is none of debug, info, warning, error"));
}

absl::StatusOr<LogFormat> LogFormatFromName(absl::string_view name) {
  if (name == "json") {
    return LogFormat::kJson;
  }
  if (name == "text") {
    return LogFormat::kText;
  }
  return Error(Reason::kInvalidArgument,
               absl::StrCat("log format \"", absl::CEscape(name), "\" is neither json nor text"));
}

LogField::LogField(absl::string_view key, absl::string_view text)
    : key_(key), value_(Cut(ToUtf8(text))), is_number_(false) {}

LogField::LogField(absl::string_view key, double number)
    : key_(key), value_(std::isfinite(number) ? absl::StrCat(number) : "null"), is_number_(true) {}

std::string LogLine(LogFormat format, absl::string_view time, LogLevel level,
                    absl::string_view event, absl::Span<const LogField> fields) {
  if (format == LogFormat::kText) {
    std::string line = absl::StrFormat("%s %-7s %s", time, NameOf(level), event);
    for (const LogField& field : fields) {
      absl::StrAppend(&line, " ", field.key_, "=",
                      field.is_number_ ? field.value_ : Quoted(field.value_));
    }
    return line;
  }
  std::string line = absl::StrCat("{\"time\":", Quoted(time), ",\"level\":\"", NameOf(level),
                                  "\",\"event\":", Quoted(event));
  for (const LogField& field : fields) {
    absl::StrAppend(&line, ",", Quoted(field.key_), ":",
                    field.is_number_ ? field.value_ : Quoted(field.value_));
  }
  return line + "}";
}

void StartLogging(LogLevel least, LogFormat format) {
  spdlog::init_thread_pool(kWaitingLines, 1);
  const auto logger = spdlog::create_async_nb<spdlog::sinks::stderr_sink_mt>("weightd");
  logger->set_pattern("%v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
  format_in_use = format;
  least_in_use = least;
  started = true;
}

void StopLogging() {
  absl::MutexLock lock(&ending);
  if (started.exchange(false)) {
    spdlog::shutdown();
  }
}

void Log(LogLevel level, absl::string_view event, absl::Span<const LogField> fields) {
  if (started && level >= least_in_use) {
    Write(level, event, fields);
  }
}

void LogAlways(absl::string_view event, absl::Span<const LogField> fields) {
  if (started) {
    Write(LogLevel::kInfo, event, fields);
  }
}

LogLevel CurrentLogLevel() { return least_in_use; }

absl::StatusOr<std::string> ChangeLogLevel(absl::string_view name) {
  ASSIGN_OR_RETURN(const LogLevel level, LogLevelFromName(name));
  const LogLevel previous = least_in_use.exchange(level);
  LogAlways("log.level_changed", {{"from", NameOf(previous)}, {"to", NameOf(level)}});
  return std::string(NameOf(previous));
}

}  // namespace weightd
