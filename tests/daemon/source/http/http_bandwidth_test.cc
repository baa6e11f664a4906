// What a read may receive under limits, by both ways that bytes come: libcurl and our own
// connections.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "daemon/source/http/bandwidth.h"
#include "daemon/source/http/http_pace.h"
#include "daemon/source/http/http_source.h"
#include "tests/daemon/source/contract/source_contract.h"
#include "tests/servers/nginx.h"

namespace weightd::source {
namespace {

const ReadPolicy kAnywhere = {.any_path = false, .any_address = true, .unpinned = false};
constexpr size_t kBytes = 4'000'000;

class HttpBandwidthTest : public testing::TestWithParam<Nginx::Scheme> {
 protected:
  HttpBandwidthTest() {
    std::ofstream(nginx_.root() / "m", std::ios::binary)
        .write(object_.data(), static_cast<std::streamsize>(object_.size()));
    options_.chunk_bytes = 500'000;
    options_.connections = 4;
    options_.ca_file = nginx_.certificate();
  }

  void Limit(uint64_t bytes_per_second) {
    options_.limits.push_back(std::make_shared<Bandwidth>(bytes_per_second));
  }

  // One read of the whole object; `bytes` counts as it goes.
  struct Reading {
    std::string read = std::string(kBytes, '\0');
    std::atomic<uint64_t> bytes = 0;
    std::atomic<bool> awaited = true;
    absl::Status status;
  };
  void Read(Source& source, Reading& reading, size_t bytes = kBytes) {
    Cancellation cancellation;
    const absl::StatusOr<ObjectVersion> version =
        source.Stat(*Uri::Parse(nginx_.Url("/m")), kAnywhere, cancellation);
    ASSERT_TRUE(version.ok()) << version.status();
    const ReadRequest request = {
        &*version, {0, bytes}, reinterpret_cast<std::byte*>(reading.read.data())};
    ReadObserver observer;
    observer.on_bytes = [&](uint64_t bytes) { reading.bytes += bytes; };
    observer.awaited = [&] { return reading.awaited.load(); };
    reading.status = source.Read({&request, 1}, kAnywhere, observer, cancellation);
    EXPECT_TRUE(reading.status.ok()) << reading.status;
    EXPECT_TRUE(absl::string_view(reading.read).substr(0, bytes) ==
                absl::string_view(object_).substr(0, bytes));
  }
  // Seconds that this many reads at once take.
  double Time(size_t reads) {
    const std::unique_ptr<Source> source = *MakeHttpSource(options_);
    std::vector<Reading> readings(reads);
    std::vector<std::thread> threads;
    const absl::Time begin = absl::Now();
    for (Reading& reading : readings) {
      threads.emplace_back([&] { Read(*source, reading); });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    return absl::ToDoubleSeconds(absl::Now() - begin);
  }
  size_t Requests() const {
    std::ifstream log(nginx_.access_log());
    return static_cast<size_t>(
        std::count(std::istreambuf_iterator<char>(log), std::istreambuf_iterator<char>(), '\n'));
  }

  const std::string object_ = Pattern(kBytes);
  Nginx nginx_{GetParam()};
  HttpSourceOptions options_;
};

TEST_P(HttpBandwidthTest, AReadIsNoFasterThanItsNarrowestLimit) {
  Limit(100'000'000);
  Limit(8'000'000);
  const double seconds = Time(1);
  EXPECT_GT(seconds, 0.45);
  EXPECT_LT(seconds, 5);
}

TEST_P(HttpBandwidthTest, SeveralReadsKeepALimitTogether) {
  Limit(16'000'000);
  const double seconds = Time(3);
  EXPECT_GT(seconds, 0.7);
  EXPECT_LT(seconds, 6);
}

// libcurl hands over whole blocks: what came beyond the allowance of a small read is not forgotten
// with the read.
TEST(PaceTest, WhatAReadReceivedTooMuchLaterReadsPay) {
  constexpr uint64_t kRate = 1'000'000;
  const std::vector<std::shared_ptr<Bandwidth>> limits = {std::make_shared<Bandwidth>(kRate)};
  {
    Allowance allowance(limits, /*awaited=*/true);
    Pace pace(&allowance);
    pace.Spend(1000 * kRate);
  }
  Allowance next(limits, /*awaited=*/true);
  const absl::Time begin = absl::Now();
  // Long enough for whoever owes nothing, and far from the time in which that is paid.
  while (absl::Now() - begin < absl::Milliseconds(20)) {
    ASSERT_EQ(next.Take(1), 0);
  }
}

TEST_P(HttpBandwidthTest, APacedTransferHasNotStalled) {
  // libcurl's blocks of 16 KiB: each of three connections has one a second.
  Limit(50'000);
  options_.stall_timeout = absl::Milliseconds(700);
  options_.chunk_bytes = 50'000;
  const std::unique_ptr<Source> source = *MakeHttpSource(options_);
  Reading reading;
  Read(*source, reading, 150'000);
  EXPECT_EQ(Requests(), 1 + 3);
}

TEST_P(HttpBandwidthTest, ReadsThatNobodyWaitsForFallBack) {
  Limit(8'000'000);
  const std::unique_ptr<Source> source = *MakeHttpSource(options_);
  Reading preload;
  preload.awaited = false;
  Reading client;
  std::thread in_background([&] { Read(*source, preload); });
  Read(*source, client);
  // A fifth to four fifths, and what it had before the client came.
  EXPECT_LT(preload.bytes, kBytes / 2);
  EXPECT_GT(preload.bytes, 0);
  in_background.join();
}

TEST_P(HttpBandwidthTest, WhoeverIsWaitedForMidwayGoesAhead) {
  Limit(8'000'000);
  const std::unique_ptr<Source> source = *MakeHttpSource(options_);
  std::vector<Reading> preloads(2);
  for (Reading& preload : preloads) {
    preload.awaited = false;
  }
  std::thread other([&] { Read(*source, preloads[1]); });
  std::thread joined([&] { Read(*source, preloads[0]); });
  while (preloads[0].bytes < kBytes / 8) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const uint64_t before = preloads[1].bytes;
  preloads[0].awaited = true;
  joined.join();
  EXPECT_LT(preloads[1].bytes - before, kBytes / 2);
  other.join();
}

INSTANTIATE_TEST_SUITE_P(Schemes, HttpBandwidthTest,
                         testing::Values(Nginx::Scheme::kHttp, Nginx::Scheme::kHttps),
                         [](const auto& info) {
                           return info.param == Nginx::Scheme::kHttp ? "Http" : "Https";
                         });

}  // namespace
}  // namespace weightd::source
