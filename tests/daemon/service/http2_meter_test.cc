#include "daemon/service/http2_meter.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace weightd::service {
namespace {

constexpr uint8_t kData = 0;
constexpr uint8_t kHeaders = 1;
constexpr uint8_t kReset = 3;
constexpr uint8_t kSettings = 4;
constexpr uint8_t kContinuation = 9;
constexpr uint8_t kAcknowledges = 1;
constexpr uint8_t kEndsHeaders = 4;
constexpr uint32_t kStreams = 10;
constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

std::string Frame(uint8_t type, uint8_t flags, size_t payload) {
  std::string frame;
  for (const size_t byte : {payload >> 16, payload >> 8, payload}) {
    frame.push_back(static_cast<char>(byte));
  }
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  return absl::StrCat(frame, std::string(4, '\0'), std::string(payload, '\xFF'));
}

class Http2MeterTest : public testing::Test {
 protected:
  Http2MeterTest() { EXPECT_TRUE(Sends(kPreface)); }

  bool Sends(absl::string_view bytes, int times = 1) {
    bool fine = true;
    for (int i = 0; i < times; ++i) {
      fine = meter_.Count(bytes, now_, settings_sent_);
    }
    return fine;
  }

  bool settings_sent_ = true;
  absl::Duration now_ = absl::Hours(1);
  Http2Meter meter_{kStreams, now_};
};

TEST_F(Http2MeterTest, AHeaderBlockHasALengthInAllItsFrames) {
  EXPECT_TRUE(Sends(Frame(kHeaders, 0, 16384)));
  EXPECT_TRUE(Sends(Frame(kContinuation, 0, 16384), 3));
  EXPECT_FALSE(Sends(Frame(kContinuation, kEndsHeaders, 1)));
  EXPECT_FALSE(Sends(Frame(kData, 0, 0)));
}

TEST_F(Http2MeterTest, TheNextBlockBeginsAnew) {
  EXPECT_TRUE(Sends(Frame(kHeaders, 0, 30000) + Frame(kContinuation, kEndsHeaders, 30000), 9));
}

TEST_F(Http2MeterTest, FramesThatContinueABlockAreCountedThoughEmpty) {
  EXPECT_TRUE(Sends(Frame(kHeaders, 0, 10)));
  EXPECT_TRUE(Sends(Frame(kContinuation, 0, 0), Http2Meter::kMaxContinuations));
  EXPECT_FALSE(Sends(Frame(kContinuation, 0, 0)));
}

TEST_F(Http2MeterTest, OneLongFrameIsNoWayAround) {
  EXPECT_FALSE(Sends(Frame(kHeaders, kEndsHeaders, Http2Meter::kMaxHeaderBlockBytes + 1)));
}

TEST_F(Http2MeterTest, StreamsHaveALimitUntilSettingsAreAcknowledged) {
  EXPECT_TRUE(Sends(Frame(kSettings, 0, 6)));
  EXPECT_TRUE(Sends(Frame(kHeaders, kEndsHeaders, 10), kStreams));
  EXPECT_FALSE(Sends(Frame(kHeaders, kEndsHeaders, 10)));
}

TEST_F(Http2MeterTest, OnceAcknowledgedStreamsAreGrpcsToLimit) {
  EXPECT_TRUE(Sends(Frame(kSettings, kAcknowledges, 0)));
  EXPECT_TRUE(Sends(Frame(kHeaders, kEndsHeaders, 10), 1000));
}

TEST_F(Http2MeterTest, WhatWasNotSentIsNotAcknowledged) {
  settings_sent_ = false;
  EXPECT_TRUE(Sends(Frame(kSettings, kAcknowledges, 0)));
  settings_sent_ = true;
  EXPECT_TRUE(Sends(Frame(kHeaders, kEndsHeaders, 10), kStreams));
  EXPECT_FALSE(Sends(Frame(kHeaders, kEndsHeaders, 10)));
}

TEST_F(Http2MeterTest, ResetsHaveARate) {
  EXPECT_TRUE(Sends(Frame(kReset, 0, 4), static_cast<int>(Http2Meter::kResets)));
  now_ += absl::Seconds(1);
  EXPECT_TRUE(Sends(Frame(kReset, 0, 4), static_cast<int>(Http2Meter::kResetsPerSecond)));
  EXPECT_FALSE(Sends(Frame(kReset, 0, 4)));
}

TEST_F(Http2MeterTest, HowTheBytesArriveMakesNoDifference) {
  const std::string fine = Frame(kHeaders, 0, 65000) + Frame(kContinuation, kEndsHeaders, 536);
  for (const char byte : fine + Frame(kData, 0, 70000) + fine) {
    ASSERT_TRUE(Sends({&byte, 1}));
  }
  EXPECT_FALSE(Sends(fine + fine + Frame(kContinuation, 0, 1)));
}

}  // namespace
}  // namespace weightd::service
