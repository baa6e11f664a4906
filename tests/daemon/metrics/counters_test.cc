#include "daemon/metrics/counters.h"

#include <gtest/gtest.h>
#include <prometheus/collectable.h>
#include <prometheus/text_serializer.h>

#include <sstream>
#include <string>

#include "common/status.h"
#include "common/uri.h"
#include "daemon/cache/events.h"

namespace weightd::metrics {
namespace {

class CountersTest : public testing::Test {
 protected:
  void Tell(cache::EventKind kind, const absl::Status& error, bool pin_lost = false) {
    counters_.Happened({.time = {},
                        .kind = kind,
                        .uri = *Uri::Parse("file:///m"),
                        .revision = {},
                        .lease = {},
                        .error = error,
                        .pin_lost = pin_lost});
  }
  bool Shows(const std::string& line) {
    std::ostringstream text;
    prometheus::TextSerializer().Serialize(text, counters_.all().Collect());
    return text.str().find("\n" + line + "\n") != std::string::npos;
  }

  Counters counters_{Counters::Known{}};
};

TEST_F(CountersTest, WhatIsLostFromOneDaemonToTheNext) {
  EXPECT_TRUE(Shows("weightd_not_readopted_total{reason=\"verification_failed\"} 0"));
  EXPECT_TRUE(Shows("weightd_not_kept_total{reason=\"budget_exceeded\"} 0"));
  EXPECT_TRUE(Shows("weightd_pins_lost_total 0"));
  Tell(cache::EventKind::kNotReadopted, Error(Reason::kVerificationFailed, "no"));
  Tell(cache::EventKind::kNotReadopted, Error(Reason::kVerificationFailed, "no"), true);
  Tell(cache::EventKind::kNotKept, Error(Reason::kBudgetExceeded, "no"));
  EXPECT_TRUE(Shows("weightd_not_readopted_total{reason=\"verification_failed\"} 2"));
  EXPECT_TRUE(Shows("weightd_pins_lost_total 1"));
  EXPECT_TRUE(Shows("weightd_not_kept_total{reason=\"budget_exceeded\"} 1"));
  EXPECT_TRUE(Shows("weightd_unknown_descriptors_total 0"));
  counters_.Happened({.time = {},
                      .kind = cache::EventKind::kNotReadopted,
                      .uri = {},
                      .revision = {},
                      .lease = {},
                      .error = Error(Reason::kVerificationFailed, "no"),
                      .unknown_descriptors = 3});
  EXPECT_TRUE(Shows("weightd_unknown_descriptors_total 3"));
  EXPECT_TRUE(Shows("weightd_not_readopted_total{reason=\"verification_failed\"} 2"));
}

}  // namespace
}  // namespace weightd::metrics
