#include "client/cli/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>

namespace weightd::cli {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

v1::LoadProgress At(v1::LoadPhase phase, uint64_t done, uint64_t total) {
  v1::LoadProgress progress;
  progress.set_phase(phase);
  progress.set_bytes_done(done);
  progress.set_bytes_total(total);
  return progress;
}

TEST(RateMeterTest, LooksAtTheLastSeconds) {
  RateMeter meter;
  const absl::Time begin = absl::UnixEpoch();
  EXPECT_EQ(meter.rate(), 0);
  meter.Add(begin, 0);
  meter.Add(begin + absl::Seconds(1), 100);
  EXPECT_EQ(meter.rate(), 100);
  for (int i = 2; i <= 20; ++i) {
    meter.Add(begin + absl::Seconds(i), 100 + 10 * (i - 1));
  }
  EXPECT_EQ(meter.rate(), 10);
}

TEST(RateMeterTest, StartsAnewWithTheLoad) {
  RateMeter meter;
  meter.Add(absl::UnixEpoch(), 1000);
  meter.Add(absl::UnixEpoch() + absl::Seconds(1), 10);
  EXPECT_EQ(meter.rate(), 0);
}

TEST(ProgressBarTest, ShowsBytesRateAndTimeLeft) {
  EXPECT_EQ(ProgressBar(At(v1::TRANSFERRING, kGiB, 2 * kGiB), kGiB / 4.0, 80),
            "transferring  [=========>        ]   50%  1.0 GiB of 2.0 GiB  256 MiB/s  4s left");
  EXPECT_EQ(ProgressBar(At(v1::TRANSFERRING, kGiB, 2 * kGiB), 0, 40),
            "transferring   50%  1.0 GiB of 2.0 GiB");
  EXPECT_EQ(ProgressBar(At(v1::RESOLVING, 0, 0), 0, 80), "resolving");
}

TEST(ProgressBarTest, FitsItsColumns) {
  for (size_t columns = 60; columns < 200; columns += 7) {
    const std::string bar = ProgressBar(At(v1::TRANSFERRING, kGiB, 3 * kGiB), 1e9, columns);
    EXPECT_LE(bar.size(), std::max<size_t>(columns, 60)) << bar;
  }
}

TEST(ProgressBarTest, SurvivesCountsBeyondTheTotal) {
  EXPECT_NE(ProgressBar(At(v1::TRANSFERRING, 30, 20), 5, 80).find("100%"), std::string::npos);
}

TEST(ProgressPrinterTest, PrintsPlainLinesWithoutATerminal) {
  std::ostringstream out;
  ProgressPrinter printer(out, /*is_terminal=*/false, 80);
  absl::Time now = absl::UnixEpoch();
  printer.Show(At(v1::RESOLVING, 0, 0), now);
  printer.Show(At(v1::RESOLVING, 0, 0), now);
  for (int i = 0; i <= 1000; i += 5) {
    now += absl::Milliseconds(5);
    printer.Show(At(v1::TRANSFERRING, i, 1000), now);
  }
  printer.Finish();
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 12) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_NE(text.find("transferring 500 B of 1000 B"), std::string::npos) << text;
}

TEST(ProgressPrinterTest, RedrawsOneLineOnATerminal) {
  std::ostringstream out;
  ProgressPrinter printer(out, /*is_terminal=*/true, 80);
  printer.Show(At(v1::RESOLVING, 0, 0), absl::UnixEpoch());
  printer.Show(At(v1::TRANSFERRING, 1, 2), absl::UnixEpoch());
  printer.Finish();
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\r'), 2);
}

}  // namespace
}  // namespace weightd::cli
