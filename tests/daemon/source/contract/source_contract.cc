#include "tests/daemon/source/contract/source_contract.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/status.h"

namespace weightd::source {
namespace {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SourceContract);

const ReadPolicy kAnywhere = {.any_path = true, .any_address = true, .unpinned = true};

absl::StatusOr<ObjectVersion> Stat(Place& place, absl::string_view name) {
  Cancellation cancellation;
  return place.source().Stat(place.UriOf(name), kAnywhere, cancellation);
}

ObjectVersion MustStat(Place& place, absl::string_view name) {
  absl::StatusOr<ObjectVersion> version = Stat(place, name);
  EXPECT_TRUE(version.ok()) << version.status();
  return version.ok() ? *std::move(version) : ObjectVersion();
}

// Destinations with a margin on both sides that must stay as it was.
class Destinations {
 public:
  // `shift` sets where in a page the bytes go.
  void Add(const ObjectVersion& object, ByteRange range, size_t shift) {
    buffers_.push_back(std::make_unique<Buffer>());
    Buffer& buffer = *buffers_.back();
    buffer.range = range;
    buffer.bytes.assign(range.size() + 3 * kPageBytes, kMargin);
    const auto address = reinterpret_cast<uintptr_t>(buffer.bytes.data()) + 1;
    buffer.begin = AlignUp(address, kPageBytes) - address + 1 + shift % kPageBytes;
    requests_.push_back({.object = &object,
                         .range = range,
                         .destination = reinterpret_cast<std::byte*>(&buffer.bytes[buffer.begin])});
  }

  const std::vector<ReadRequest>& requests() const { return requests_; }

  void ExpectBytesOf(absl::string_view object, size_t first = 0) const {
    for (size_t i = first; i < buffers_.size(); ++i) {
      const Buffer& buffer = *buffers_[i];
      const absl::string_view all(buffer.bytes);
      EXPECT_TRUE(all.substr(buffer.begin, buffer.range.size()) ==
                  object.substr(buffer.range.begin, buffer.range.size()))
          << "bytes " << buffer.range << " differ";
      EXPECT_EQ(all.substr(0, buffer.begin).find_first_not_of(kMargin), absl::string_view::npos);
      EXPECT_EQ(all.substr(buffer.begin + buffer.range.size()).find_first_not_of(kMargin),
                absl::string_view::npos);
    }
  }

 private:
  static constexpr char kMargin = '#';

  struct Buffer {
    ByteRange range;
    std::string bytes;
    size_t begin = 0;
  };

  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<ReadRequest> requests_;
};

absl::Status Read(Place& place, const Destinations& destinations,
                  const ReadObserver& observer = {}) {
  Cancellation cancellation;
  return place.source().Read(destinations.requests(), kAnywhere, observer, cancellation);
}

TEST_P(SourceContract, StatTellsSizeAndVersion) {
  place_->Put("a", Pattern(12345));
  const ObjectVersion version = MustStat(*place_, "a");
  EXPECT_EQ(version.size, 12345);
  EXPECT_FALSE(version.validator.empty());
  EXPECT_TRUE(version.strong);
  EXPECT_EQ(version.uri, place_->UriOf("a"));
  EXPECT_EQ(MustStat(*place_, "a").validator, version.validator);
}

TEST_P(SourceContract, AnEmptyObjectHasAVersionAndNoBytes) {
  place_->Put("empty", "");
  const ObjectVersion version = MustStat(*place_, "empty");
  EXPECT_EQ(version.size, 0);
  Destinations destinations;
  destinations.Add(version, {0, 0}, 0);
  std::vector<size_t> done;
  ReadObserver observer;
  observer.on_request_done = [&](size_t index) { done.push_back(index); };
  EXPECT_EQ(Read(*place_, destinations, observer), absl::OkStatus());
  EXPECT_THAT(done, testing::ElementsAre(0));
}

TEST_P(SourceContract, WhatIsNotThereIsNotFound) {
  EXPECT_EQ(ReasonOf(Stat(*place_, "missing").status()), Reason::kModelNotFound);
}

TEST_P(SourceContract, ReadsAWholeObjectWhereverItGoes) {
  const std::string bytes = Pattern((5 << 20) + 77);
  place_->Put("a", bytes);
  const ObjectVersion version = MustStat(*place_, "a");
  for (const size_t shift : {0, 1, 512, 4095}) {
    Destinations destinations;
    destinations.Add(version, {0, bytes.size()}, shift);
    ASSERT_EQ(Read(*place_, destinations), absl::OkStatus());
    destinations.ExpectBytesOf(bytes);
  }
}

TEST_P(SourceContract, ReadsManyRangesAtOnceAndCountsEveryByteOnce) {
  const std::string bytes = Pattern((3 << 20) + 5);
  place_->Put("a", bytes);
  const ObjectVersion version = MustStat(*place_, "a");
  Destinations destinations;
  uint64_t wanted = 0;
  uint64_t begin = 0;
  for (const uint64_t size : {1, 8, 4088, 4096, 100'000, 1 << 20, 0, (1 << 20) + 1, 13}) {
    destinations.Add(version, {begin, begin + size}, begin);
    begin += size;
    wanted += size;
  }
  // The same bytes twice, to places of their own.
  destinations.Add(version, {4000, 9000}, 7);
  destinations.Add(version, {bytes.size() - 1, bytes.size()}, 0);
  wanted += 5001;
  std::atomic<uint64_t> arrived = 0;
  std::vector<std::atomic<int>> done(destinations.requests().size());
  ReadObserver observer;
  observer.on_bytes = [&](uint64_t n) { arrived += n; };
  observer.on_request_done = [&](size_t index) { ++done[index]; };
  ASSERT_EQ(Read(*place_, destinations, observer), absl::OkStatus());
  destinations.ExpectBytesOf(bytes);
  EXPECT_EQ(arrived, wanted);
  for (const std::atomic<int>& times : done) {
    EXPECT_EQ(times, 1);
  }
}

TEST_P(SourceContract, ReadsSeveralObjectsAtOnce) {
  std::vector<std::string> bytes;
  std::vector<ObjectVersion> versions;
  for (uint32_t i = 0; i < 3; ++i) {
    bytes.push_back(Pattern(700'000 + i, i));
    place_->Put(absl::StrCat("shard-", i), bytes.back());
  }
  for (uint32_t i = 0; i < 3; ++i) {
    versions.push_back(MustStat(*place_, absl::StrCat("shard-", i)));
  }
  std::vector<Destinations> one_each(3);
  std::vector<ReadRequest> all;
  for (size_t i = 0; i < 3; ++i) {
    one_each[i].Add(versions[i], {i, bytes[i].size()}, i);
    all.push_back(one_each[i].requests()[0]);
  }
  Cancellation cancellation;
  ASSERT_EQ(place_->source().Read(all, kAnywhere, {}, cancellation), absl::OkStatus());
  for (size_t i = 0; i < 3; ++i) {
    one_each[i].ExpectBytesOf(bytes[i]);
  }
}

TEST_P(SourceContract, AReplacedObjectIsNotReadAsTheOldOne) {
  const std::string before = Pattern(100'000, 1);
  place_->Put("a", before);
  const ObjectVersion version = MustStat(*place_, "a");
  place_->Put("a", Pattern(100'001, 2));
  Destinations destinations;
  destinations.Add(version, {0, version.size}, 0);
  if (place_->keeps_versions()) {
    EXPECT_EQ(Read(*place_, destinations), absl::OkStatus());
    destinations.ExpectBytesOf(before);
  } else {
    EXPECT_EQ(ReasonOf(Read(*place_, destinations)), Reason::kSourceChanged);
  }
  EXPECT_NE(MustStat(*place_, "a").validator, version.validator);
}

TEST_P(SourceContract, BytesPastTheEndAreTheCallersMistake) {
  place_->Put("a", Pattern(100));
  const ObjectVersion version = MustStat(*place_, "a");
  Destinations destinations;
  destinations.Add(version, {50, 101}, 0);
  EXPECT_EQ(ReasonOf(Read(*place_, destinations)), Reason::kInvalidArgument);
}

TEST_P(SourceContract, ACancelledReadEndsWithItsReason) {
  place_->Put("a", Pattern(100'000));
  const ObjectVersion version = MustStat(*place_, "a");
  Destinations destinations;
  destinations.Add(version, {0, version.size}, 0);
  Cancellation cancellation;
  cancellation.Cancel(Error(Reason::kCancelled, "nobody waits"));
  EXPECT_EQ(place_->source().Read(destinations.requests(), kAnywhere, {}, cancellation),
            cancellation.status());
  EXPECT_EQ(place_->source().Stat(version.uri, kAnywhere, cancellation).status(),
            cancellation.status());
}

}  // namespace

std::string Pattern(size_t size, uint32_t seed) {
  std::string bytes(size, '\0');
  uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

}  // namespace weightd::source
