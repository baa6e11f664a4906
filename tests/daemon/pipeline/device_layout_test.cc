#include "daemon/pipeline/device_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/stream_layout.h"

namespace weightd::pipeline {
namespace {

using device::CopyRun;

ModelIndex IndexOf(const std::vector<ByteRange>& places) {
  ModelIndex index;
  for (size_t i = 0; i < places.size(); ++i) {
    index.pieces.push_back({.name = absl::StrCat("t", i),
                            .torch_type = {},
                            .shape = {places[i].size()},
                            .offset = places[i].begin,
                            .nbytes = places[i].size()});
    index.segment_bytes = std::max(index.segment_bytes, AlignUp(places[i].end, kPageBytes));
  }
  LayOutOnDevice(index);
  return index;
}

std::vector<uint64_t> DeviceOffsets(const ModelIndex& index) {
  std::vector<uint64_t> offsets;
  offsets.reserve(index.pieces.size());
  for (const Piece& piece : index.pieces) {
    offsets.push_back(piece.device_offset);
  }
  return offsets;
}

// Of each device byte, which host byte is copied there; fails if one is copied twice.
std::vector<int64_t> Copied(const std::vector<CopyRun>& runs, uint64_t device_bytes) {
  std::vector<int64_t> from(device_bytes, -1);
  for (const CopyRun& run : runs) {
    for (uint64_t i = 0; i < run.host.size(); ++i) {
      EXPECT_EQ(from.at(run.device_offset + i), -1);
      from.at(run.device_offset + i) = static_cast<int64_t>(run.host.begin + i);
    }
  }
  return from;
}

TEST(DeviceLayoutTest, TensorsLieAtMultiplesOf256InTheOrderOfTheHost) {
  const ModelIndex index = IndexOf({{5000, 5100}, {4096, 5000}, {8192, 8193}});
  EXPECT_EQ(DeviceOffsets(index), (std::vector<uint64_t>{1024, 0, 1280}));
  EXPECT_EQ(index.device_bytes, 1536u);
}

TEST(DeviceLayoutTest, AlignedTensorsAreOneRun) {
  const ModelIndex index = IndexOf({{328, 328 + 512}, {840, 840 + 256}, {1096, 1096 + 100}});
  const std::vector<CopyRun> runs = CopyRunsOf(index);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].host, (ByteRange{328, 1196}));
  EXPECT_EQ(runs[0].device_offset, 0u);
}

TEST(DeviceLayoutTest, OverlappingTensorsKeepTheirRelativePlaces) {
  const ModelIndex index = IndexOf({{0, 100}, {64, 1000}, {512, 640}, {900, 1100}, {1100, 1200}});
  EXPECT_EQ(DeviceOffsets(index), (std::vector<uint64_t>{0, 64, 512, 900, 1280}));
  EXPECT_EQ(CopyRunsOf(index).size(), 2u);
}

TEST(DeviceLayoutTest, EmptyTensorsLieInTheSegment) {
  const ModelIndex index = IndexOf({{4096, 4096}});
  EXPECT_EQ(DeviceOffsets(index), (std::vector<uint64_t>{0}));
  EXPECT_EQ(index.device_bytes, 256u);
  EXPECT_TRUE(CopyRunsOf(index).empty());
  EXPECT_EQ(IndexOf({}).device_bytes, 256u);
}

TEST(DeviceLayoutTest, WhateverTheLayoutEveryByteOfATensorIsCopiedOnceToItsPlace) {
  std::mt19937 random(6);  // NOLINT(cert-msc51-cpp): the same layouts each time
  const auto below = [&random](uint64_t end) { return random() % end; };
  for (int round = 0; round < 300; ++round) {
    std::vector<ByteRange> places;
    uint64_t at = below(5000);
    for (uint64_t tensors = 1 + below(20); tensors > 0; --tensors) {
      const uint64_t size = below(3) == 0 ? 256 * below(4) : below(2000);
      places.push_back({at, at + size});
      if (below(8) == 0 && size > 0) {  // one derived of it
        const uint64_t begin = at + below(size);
        places.push_back({begin, begin + below(size) + 1});
      }
      at = places.back().end < at + size ? at + size : places.back().end;
      at += below(2) == 0 ? 0 : below(300);
    }
    std::shuffle(places.begin(), places.end(), random);
    const ModelIndex index = IndexOf(places);
    ASSERT_EQ(index.device_bytes % kDeviceAlignment, 0u);
    const std::vector<CopyRun> runs = CopyRunsOf(index);
    const std::vector<int64_t> copied = Copied(runs, index.device_bytes);
    std::vector<bool> wanted(index.device_bytes, false);
    for (const Piece& piece : index.pieces) {
      ASSERT_LE(piece.device_offset + piece.nbytes, index.device_bytes);
      bool overlaps = false;
      for (const Piece& other : index.pieces) {
        overlaps = overlaps || (other.offset < piece.offset && piece.nbytes > 0 &&
                                piece.offset < other.offset + other.nbytes);
        if (other.nbytes > 0 && piece.nbytes > 0 && other.offset < piece.offset) {
          ASSERT_LT(other.device_offset, piece.device_offset) << "the order changed";
        }
      }
      if (!overlaps) {
        ASSERT_EQ(piece.device_offset % kDeviceAlignment, 0u);
      }
      for (uint64_t i = 0; i < piece.nbytes; ++i) {
        ASSERT_EQ(copied[piece.device_offset + i], static_cast<int64_t>(piece.offset + i));
        wanted[piece.device_offset + i] = true;
      }
    }
    for (uint64_t i = 0; i < index.device_bytes; ++i) {
      ASSERT_EQ(copied[i] >= 0, wanted[i]) << "what is no tensor's is not copied";
    }
    for (size_t i = 1; i < runs.size(); ++i) {
      ASSERT_LE(runs[i - 1].host.end, runs[i].host.begin);
      ASSERT_LE(runs[i - 1].device_offset + runs[i - 1].host.size(), runs[i].device_offset);
    }
  }
}

TEST(StreamLayoutTest, FilesFollowOneAnotherWithoutHeadersAndKeepTheirPlaceModuloAPage) {
  ModelIndex index = IndexOf({{100, 1100}, {8192, 8200}, {8256, 8320}, {8448, 8480}});
  index.files.resize(3);
  index.files[0].version.size = 1100;
  index.files[1].version.size = 50;  // all of it header
  index.files[2].version.size = 200;
  // The first as it is stored; the third in two pieces, the other way round than in the file.
  index.extents = {
      {0, {0, 1100}, 0}, {2, {100, 164}, 8256}, {2, {164, 172}, 8192}, {2, {172, 200}, 12000}};
  const StreamLayout stream = LayOutStream(index, {100, 50, 100}, {ByteRange{8448, 8480}});
  ASSERT_EQ(stream.extents.size(), 2u);
  EXPECT_EQ(stream.extents[0].bytes, (ByteRange{100, 1100}));
  EXPECT_EQ(stream.extents[0].offset, 100u);
  EXPECT_EQ(stream.extents[1].bytes, (ByteRange{100, 200}));
  EXPECT_EQ(stream.extents[1].offset, 4096u + 100);
  EXPECT_EQ(stream.zeros, (ByteRange{4296, 4328}));
  EXPECT_EQ(stream.bytes, 4328u);
  ASSERT_EQ(stream.runs.size(), 4u);
  EXPECT_EQ(stream.runs[0].host, (ByteRange{100, 1100}));
  EXPECT_EQ(stream.runs[0].device_offset, index.pieces[0].device_offset);
  EXPECT_EQ(stream.runs[1].host, (ByteRange{4196, 4260}));
  EXPECT_EQ(stream.runs[1].device_offset, index.pieces[2].device_offset);
  EXPECT_EQ(stream.runs[2].host, (ByteRange{4260, 4268}));
  EXPECT_EQ(stream.runs[2].device_offset, index.pieces[1].device_offset);
  EXPECT_EQ(stream.runs[3].host, (ByteRange{4296, 4328}));
  EXPECT_EQ(stream.runs[3].device_offset, index.pieces[3].device_offset);
}

}  // namespace
}  // namespace weightd::pipeline
