#include "daemon/device/runs.h"

#include "common/status.h"
#include "gtest/gtest.h"

namespace weightd::device {
namespace {

TEST(RunsTest, RunsThatShareBytesOrLeaveTheSegmentAreRefused) {
  EXPECT_TRUE(Runs::Make({}, 0).ok());
  EXPECT_TRUE(Runs::Make({{{0, 10}, 90}}, 100).ok());
  EXPECT_FALSE(Runs::Make({{{0, 10}, 91}}, 100).ok());
  EXPECT_FALSE(Runs::Make({{{0, 101}, 0}}, 100).ok());
  EXPECT_FALSE(Runs::Make({{{0, 10}, ~uint64_t{0}}}, 100).ok());
  EXPECT_FALSE(Runs::Make({{{10, 0}, 0}}, 100).ok());
  EXPECT_FALSE(Runs::Make({{{0, 10}, 0}, {{9, 20}, 50}}, 100).ok()) << "host bytes";
  EXPECT_FALSE(Runs::Make({{{0, 10}, 0}, {{10, 20}, 9}}, 100).ok()) << "device bytes";
}

TEST(RunsTest, NeighboursAreOnePiece) {
  const auto runs = Runs::Make({{{3, 13}, 0}, {{15, 25}, 256}, {{25, 30}, 10'000}}, 20'000);
  ASSERT_TRUE(runs.ok());
  ByteRange rest{0, 40};
  uint64_t source = 1000;
  Piece piece = runs->Cut(rest, source, 4096);
  EXPECT_EQ(piece.device_offset, 0);
  EXPECT_EQ(piece.bytes, 266);
  ASSERT_EQ(piece.parts.size(), 2);
  EXPECT_EQ(piece.parts[0].source, 1003);
  EXPECT_EQ(piece.parts[1].source, 1015);
  EXPECT_EQ(piece.parts[1].at, 256);
  EXPECT_EQ(piece.part_bytes(), 20);
  piece = runs->Cut(rest, source, 4096);
  EXPECT_EQ(piece.device_offset, 10'000) << "too far for the same piece";
  EXPECT_EQ(piece.parts.at(0).source, 1025);
  EXPECT_TRUE(rest.empty()) << "nothing more is in a run";
  rest = {30, 40};
  EXPECT_TRUE(runs->Cut(rest, source, 4096).parts.empty());
  EXPECT_TRUE(rest.empty());
}

TEST(RunsTest, APieceNeverWritesWhatLiesBetweenItsParts) {
  // On the device, the third lies between the first two.
  const auto runs = Runs::Make({{{0, 10}, 0}, {{10, 20}, 100}, {{20, 30}, 50}}, 200);
  ASSERT_TRUE(runs.ok());
  ByteRange rest{0, 30};
  uint64_t source = 0;
  for (const uint64_t device : {0, 100, 50}) {
    const Piece piece = runs->Cut(rest, source, 4096);
    EXPECT_EQ(piece.device_offset, device);
    EXPECT_EQ(piece.bytes, 10);
  }
}

TEST(RunsTest, PiecesAreNoLargerThanAsked) {
  const auto runs = Runs::Make({{{0, 100}, 0}, {{100, 200}, 120}}, 300);
  ASSERT_TRUE(runs.ok());
  ByteRange rest{10, 190};
  uint64_t source = 0;
  uint64_t bytes = 0;
  while (!rest.empty()) {
    const Piece piece = runs->Cut(rest, source, 33);
    EXPECT_LE(piece.bytes, 33);
    bytes += piece.part_bytes();
  }
  EXPECT_EQ(bytes, 180);
  EXPECT_EQ(source, 180);
}

TEST(RunsTest, GapsAreWhatNoRunFills) {
  const auto runs = Runs::Make({{{0, 10}, 20}, {{10, 20}, 30}, {{20, 30}, 50}}, 100);
  ASSERT_TRUE(runs.ok());
  const std::vector<ByteRange> expected = {{0, 20}, {40, 50}, {60, 100}};
  EXPECT_EQ(runs->DeviceGaps(100), expected);
  EXPECT_EQ(runs->bytes(), 30);
}

}  // namespace
}  // namespace weightd::device
