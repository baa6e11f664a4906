// Which range requests a read becomes.

#include "daemon/source/http/http_piece_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/byte_range.h"
#include "common/uri.h"
#include "daemon/source/http/http_piece.h"
#include "daemon/source/source.h"

namespace weightd::source {
namespace {

using testing::ElementsAre;

constexpr uint64_t kMiB = 1 << 20;

ObjectVersion Object(const char* uri) {
  ObjectVersion object;
  object.uri = *Uri::Parse(uri);
  object.size = 100 * kMiB;
  object.strong = true;
  return object;
}

class PieceQueueTest : public testing::Test {
 protected:
  // Where bytes go is not looked at here.
  std::vector<std::string> Ranges(const std::vector<ReadRequest>& requests,
                                  uint64_t largest = 32 * kMiB) {
    const ReadObserver observer;
    ReadTally tally(requests, &observer);
    PieceQueue queue(requests, largest, &tally);
    std::vector<std::string> ranges;
    while (const Exchange* const exchange = queue.Next(4)) {
      ranges.push_back(exchange->Range());
    }
    return ranges;
  }

  const ObjectVersion one_ = Object("http://host/one");
  const ObjectVersion other_ = Object("http://host/other");
  std::byte place_{};
};

TEST_F(PieceQueueTest, RequestsThatFollowOneAnotherAreAskedForTogether) {
  std::vector<ReadRequest> requests;
  for (uint64_t i = 0; i < 1000; ++i) {
    requests.push_back({&one_, {1000 + i * 100, 1100 + i * 100}, &place_});
  }
  EXPECT_THAT(Ranges(requests), ElementsAre("1000-100999"));
}

TEST_F(PieceQueueTest, WhatDoesNotFollowIsAskedForByItself) {
  EXPECT_THAT(Ranges({{&one_, {0, 10}, &place_},
                      {&one_, {20, 30}, &place_},
                      {&one_, {30, 30}, &place_},
                      {&one_, {30, 40}, &place_},
                      {&other_, {40, 50}, &place_},
                      {&one_, {0, 5}, &place_}}),
              ElementsAre("0-9", "20-39", "40-49", "0-4"));
}

TEST_F(PieceQueueTest, NoPieceIsLargerThanAllowed) {
  EXPECT_THAT(
      Ranges({{&one_, {0, kMiB / 2}, &place_}, {&one_, {kMiB / 2, 2 * kMiB + 1}, &place_}}, kMiB),
      ElementsAre("0-1048575", "1048576-2097151", "2097152-2097152"));
}

TEST_F(PieceQueueTest, BytesOfEachPartGoToItsOwnPlace) {
  std::string first(3, '.');
  std::string second(4, '.');
  std::vector<size_t> done;
  ReadObserver observer;
  observer.on_request_done = [&done](size_t index) { done.push_back(index); };
  const std::vector<ReadRequest> requests = {
      {&one_, {10, 13}, reinterpret_cast<std::byte*>(first.data())},
      {&one_, {13, 17}, reinterpret_cast<std::byte*>(second.data())}};
  ReadTally tally(requests, &observer);
  Piece piece(&one_, {10, 10});
  piece.Append(0, 3, requests[0].destination);
  piece.Append(1, 4, requests[1].destination);
  EXPECT_EQ(piece.range(), (ByteRange{10, 17}));

  piece.Take(10, {"ab", 2}, tally);
  ASSERT_EQ(piece.Space().data(), requests[0].destination + 2);
  ASSERT_EQ(piece.Space().size(), 1u) << "as far as it is one place";
  piece.Space()[0] = std::byte{'c'};
  piece.Took(1, tally);
  EXPECT_THAT(done, ElementsAre(0u));
  ASSERT_EQ(piece.Space().data(), requests[1].destination);
  // A retry of another kind repeats what came before.
  piece.Take(10, {"abcdefg", 7}, tally);
  EXPECT_EQ(first + second, "abcdefg");
  EXPECT_TRUE(piece.rest().empty());
  EXPECT_TRUE(piece.Space().empty());
  EXPECT_THAT(done, ElementsAre(0u, 1u));
}

}  // namespace
}  // namespace weightd::source
