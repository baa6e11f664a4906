#include "daemon/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "common/status.h"

namespace weightd {
namespace {

using ::testing::HasSubstr;

std::string Json(absl::Span<const LogField> fields) {
  return LogLine(LogFormat::kJson, "T", LogLevel::kInfo, "e", fields);
}

TEST(LogLine, NumbersAreNumbers) {
  EXPECT_EQ(
      Json({{"a", -1},
            {"b", std::numeric_limits<uint64_t>::max()},
            {"c", 1.5},
            {"d", 0.0},
            {"e", std::numeric_limits<double>::quiet_NaN()},
            {"f", uint32_t{7}}}),
      "{\"time\":\"T\",\"level\":\"info\",\"event\":\"e\",\"a\":-1,\"b\":18446744073709551615,"
      "\"c\":1.5,\"d\":0,\"e\":null,\"f\":7}");
}

TEST(LogLine, TextIsQuotedWhateverItIs) {
  EXPECT_EQ(Json({{"a", "x\"\n\\"}}),
            "{\"time\":\"T\",\"level\":\"info\",\"event\":\"e\",\"a\":\"x\\\"\\u000a\\\\\"}");
  EXPECT_EQ(LogLine(LogFormat::kText, "T", LogLevel::kWarning, "e", {{"a", "b c"}, {"n", 3}}),
            "T warning e a=\"b c\" n=3");
}

TEST(LogLine, NothingInTextIsObeyedOrHides) {
  EXPECT_THAT(Json({{"a", "x\u009b31m\x7f\u202ey\u2066\u200b\ufeff"}}),
              HasSubstr("\"a\":\"x\\u009b31m\\u007f\\u202ey\\u2066\\u200b\\ufeff\""));
  EXPECT_THAT(Json({{"a", "é — 日本 🤗"}}), HasSubstr("\"a\":\"é — 日本 🤗\""));
  EXPECT_THAT(Json({{"a", "x\x9b\xffy"}}), HasSubstr("\"a\":\"x??y\""));
}

TEST(LogLine, LongTextIsCutBetweenCharacters) {
  const std::string fits(1024, 'x');
  EXPECT_THAT(Json({{"a", fits}}), HasSubstr("\"a\":\"" + fits + "\""));
  EXPECT_THAT(Json({{"a", fits + "y"}}), HasSubstr("\"a\":\"" + fits + "… (cut: 1025 bytes)\""));
  const std::string before(1023, 'x');
  EXPECT_THAT(Json({{"a", before + "é"}}),
              HasSubstr("\"a\":\"" + before + "… (cut: 1025 bytes)\""));
  EXPECT_LT(Json({{"a", std::string(5000, '\x80')}}).size(), 1100);
}

TEST(LogLevels, ChangeWhileItRuns) {
  EXPECT_EQ(CurrentLogLevel(), LogLevel::kInfo);
  EXPECT_EQ(*ChangeLogLevel("debug"), "info");
  EXPECT_EQ(CurrentLogLevel(), LogLevel::kDebug);
  EXPECT_EQ(ReasonOf(ChangeLogLevel("loud").status()), Reason::kInvalidArgument);
  EXPECT_EQ(*ChangeLogLevel("info"), "debug");
}

TEST(Logging, EndsWhileOthersLog) {
  for (int round = 0; round < 100; ++round) {
    StartLogging(LogLevel::kInfo, LogFormat::kJson);
    std::atomic<int> lines = 0;
    std::atomic<bool> stopped = false;
    std::thread other([&] {
      for (; !stopped; ++lines) {
        Log(LogLevel::kInfo, "other.lives");
      }
    });
    while (lines == 0) {
      std::this_thread::yield();
    }
    StopLogging();
    stopped = true;
    other.join();
  }
}

}  // namespace
}  // namespace weightd
