#include "daemon/pipeline/layout.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "common/status.h"
#include "daemon/format/header.h"
#include "daemon/pipeline/plan.h"
#include "gtest/gtest.h"

namespace weightd::pipeline {
namespace {

using format::FileHeader;
using format::TensorEntry;

ModelFile File(std::string name, uint64_t size) {
  ModelFile file;
  file.name = std::move(name);
  file.version.size = size;
  return file;
}

TensorEntry Tensor(std::string name, DType dtype, uint64_t begin, uint64_t elements) {
  const uint64_t bytes = elements * DTypeBits(dtype) / 8;
  TensorEntry tensor;
  tensor.name = std::move(name);
  tensor.dtype = dtype;
  tensor.shape = {elements};
  tensor.bytes = {begin, begin + bytes};
  tensor.nbytes = bytes;
  return tensor;
}

FileHeader Header(std::vector<TensorEntry> tensors) {
  FileHeader header;
  header.tensors = std::move(tensors);
  if (!header.tensors.empty()) {
    header.header_bytes = header.tensors.front().bytes.begin;
  }
  return header;
}

const Piece& PieceNamed(const SegmentLayout& layout, const std::string& name) {
  for (const Piece& piece : layout.pieces) {
    if (piece.name == name) return piece;
  }
  ADD_FAILURE() << "no piece " << name;
  return layout.pieces.front();
}

TEST(LayOut, AnAlignedFileKeepsItsOffsets) {
  const std::vector<ModelFile> files = {File("m", 10'000)};
  const std::vector<FileHeader> headers = {
      Header({Tensor("b", DType::kF32, 104, 1000), Tensor("a", DType::kU8, 4104, 5896)})};
  const auto layout = LayOut(files, headers);
  ASSERT_TRUE(layout.ok());
  ASSERT_EQ(layout->extents.size(), 1u);
  EXPECT_EQ(layout->extents[0].bytes, (ByteRange{0, 10'000}));
  EXPECT_EQ(layout->extents[0].offset, 0u);
  EXPECT_EQ(layout->segment_bytes, 12'288u);
  ASSERT_EQ(layout->pieces.size(), 2u);
  EXPECT_EQ(layout->pieces[0].name, "a") << "ordered by name";
  EXPECT_EQ(layout->pieces[0].offset, 4104u);
  EXPECT_EQ(layout->pieces[0].nbytes, 5896u);
  EXPECT_EQ(layout->pieces[1].offset, 104u);
  EXPECT_EQ(layout->pieces[1].shape, (std::vector<uint64_t>{1000}));
}

TEST(LayOut, EachShardIsOneExtentOnAPageOfItsOwn) {
  const std::vector<ModelFile> files = {File("1", 5000), File("2", 4096), File("3", 1)};
  const std::vector<FileHeader> headers = {Header({Tensor("x", DType::kU8, 100, 4900)}),
                                           Header({Tensor("y", DType::kU8, 96, 4000)}), Header({})};
  const auto layout = LayOut(files, headers);
  ASSERT_TRUE(layout.ok());
  ASSERT_EQ(layout->extents.size(), 3u);
  EXPECT_EQ(layout->extents[1].offset, 8192u);
  EXPECT_EQ(layout->extents[2].offset, 12'288u);
  EXPECT_EQ(PieceNamed(*layout, "y").offset, 8192u + 96);
  EXPECT_EQ(PieceNamed(*layout, "y").file, 1u);
  EXPECT_EQ(layout->segment_bytes, 16'384u);
}

TEST(LayOut, AnUnpaddedHeaderShiftsTheData) {
  const std::vector<ModelFile> files = {File("m", 101 + 4000)};
  const std::vector<FileHeader> headers = {
      Header({Tensor("a", DType::kF32, 101, 500), Tensor("b", DType::kF64, 2101, 250)})};
  const auto layout = LayOut(files, headers);
  ASSERT_TRUE(layout.ok());
  ASSERT_EQ(layout->extents.size(), 1u);
  EXPECT_EQ(layout->extents[0].bytes, (ByteRange{101, 4101}));
  EXPECT_EQ(layout->extents[0].offset % kTensorAlignment, 0u);
  EXPECT_EQ(PieceNamed(*layout, "b").offset, layout->extents[0].offset + 2000);
}

TEST(LayOut, TensorsThatNoShiftAlignsArePlacedOneByOne) {
  const std::vector<ModelFile> files = {File("m", 100 + 3 + 4000 + 8000)};
  const std::vector<FileHeader> headers = {
      Header({Tensor("bools", DType::kBool, 100, 3), Tensor("f", DType::kF32, 103, 1000),
              Tensor("d", DType::kF64, 4103, 1000)})};
  const auto layout = LayOut(files, headers);
  ASSERT_TRUE(layout.ok());
  ASSERT_EQ(layout->extents.size(), 3u);
  EXPECT_EQ(layout->extents[1].bytes, (ByteRange{103, 4103}));
  for (const Piece& piece : layout->pieces) {
    EXPECT_EQ(piece.offset % kTensorAlignment, 0u) << piece.name;
  }
}

// A tensorizer file: a header of its own before each tensor, and something at the end.
FileHeader Records() {
  TensorEntry zeros = Tensor("zeros", DType::kF32, 5120, 0);
  zeros.shape = {25};
  zeros.nbytes = 100;
  FileHeader header = Header(
      {Tensor("a", DType::kF32, 1100, 1000), std::move(zeros), Tensor("b", DType::kU8, 5221, 779)});
  header.header_bytes = 1000;
  header.tensorizer = format::TensorizerTraits{.version = 4};
  return header;
}

TEST(LayOut, WhatLiesBetweenTensorsFollowsTheLast) {
  const auto layout = LayOut({File("m", 6008)}, {Records()});
  ASSERT_TRUE(layout.ok());
  const uint64_t rest = 4032 + 128 + 832;  // the tensors, each rounded up
  const std::vector<Extent> wanted = {{0, {1000, 1100}, rest},
                                      {0, {1100, 5100}, 0},
                                      {0, {5100, 5221}, rest + 100},
                                      {0, {5221, 6000}, 4032 + 128},
                                      {0, {6000, 6008}, rest + 221}};
  ASSERT_EQ(layout->extents.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(layout->extents[i].bytes, wanted[i].bytes);
    EXPECT_EQ(layout->extents[i].offset, wanted[i].offset);
  }
  EXPECT_EQ(PlaceOf(layout->extents, 0, 5150), rest + 150);
  EXPECT_EQ(PlaceOf(layout->extents, 0, 5221), 4160u);
}

TEST(LayOut, TensorsThatNoFileStoresAreZeros) {
  const auto layout = LayOut({File("m", 6008)}, {Records()});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->zeros, (std::vector<ByteRange>{{4032, 4132}}));
  EXPECT_EQ(PieceNamed(*layout, "zeros").offset, 4032u);
  EXPECT_EQ(PieceNamed(*layout, "zeros").nbytes, 100u);

  FileHeader absurd = Records();
  absurd.tensors[1].nbytes = uint64_t{1} << 60;
  EXPECT_EQ(ReasonOf(LayOut({File("m", 6008)}, {absurd}).status()), Reason::kMalformedModel);
}

TEST(LayOut, EmptyTensorsDontMakeAFileMisaligned) {
  const std::vector<ModelFile> files = {File("m", 108)};
  const std::vector<FileHeader> headers = {
      Header({Tensor("x", DType::kU8, 101, 7), Tensor("none", DType::kF64, 108, 0)})};
  const auto layout = LayOut(files, headers);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->extents[0].bytes, (ByteRange{0, 108}));
  const Piece& none = PieceNamed(*layout, "none");
  EXPECT_EQ(none.nbytes, 0u);
  EXPECT_EQ(none.offset % kTensorAlignment, 0u);
  EXPECT_LE(none.offset, layout->segment_bytes);
}

TEST(LayOut, AModelWithoutBytesHasASegment) {
  const auto layout = LayOut({}, {});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->segment_bytes, kPageBytes);
}

TEST(LayOut, ANameInTwoFilesIsRefused) {
  const std::vector<ModelFile> files = {File("1", 200), File("2", 200)};
  const std::vector<FileHeader> headers = {Header({Tensor("twice", DType::kU8, 100, 100)}),
                                           Header({Tensor("twice", DType::kU8, 100, 100)})};
  const auto layout = LayOut(files, headers);
  EXPECT_EQ(ReasonOf(layout.status()), Reason::kMalformedModel);
}

TEST(LayOut, SizesThatNoMachineHasAreRefused) {
  const uint64_t half = uint64_t{1} << 63;
  const std::vector<FileHeader> headers = {Header({}), Header({})};
  for (const uint64_t size : {half, ~uint64_t{0}, ~uint64_t{0} - 4095, uint64_t{1} << 56}) {
    const std::vector<ModelFile> files = {File("1", size), File("2", size)};
    EXPECT_EQ(ReasonOf(LayOut(files, headers).status()), Reason::kMalformedModel) << size;
  }
}

TEST(PlanTransfer, CutsAtPagesOfTheFileAndNeverTooLarge) {
  const std::vector<Extent> extents = {{0, {100, 300'000'000}, 8192 + 100}};
  const auto chunks = PlanTransfer(extents, 1 << 20);
  uint64_t expected = 100;
  for (const Extent& chunk : chunks) {
    EXPECT_EQ(chunk.bytes.begin, expected);
    EXPECT_LE(chunk.bytes.size(), uint64_t{1} << 20);
    EXPECT_EQ(chunk.offset, 8192 + chunk.bytes.begin);
    EXPECT_TRUE(chunk.bytes.end % kPageBytes == 0 || chunk.bytes.end == 300'000'000);
    expected = chunk.bytes.end;
  }
  EXPECT_EQ(expected, 300'000'000u);
}

TEST(PlanTransfer, SmallModelsAreStillCutForManyConnections) {
  const std::vector<Extent> extents = {{0, {0, 90 << 20}, 0}};
  const auto chunks = PlanTransfer(extents, 32 << 20);
  EXPECT_GE(chunks.size(), 16u);
  EXPECT_LE(chunks.size(), 64u);
}

TEST(PlanTransfer, NothingGivesNothing) {
  EXPECT_TRUE(PlanTransfer({}, 32 << 20).empty());
  const std::vector<Extent> extents = {{0, {5, 5}, 0}};
  EXPECT_TRUE(PlanTransfer(extents, 32 << 20).empty());
}

// A model of random files: sizes, dtypes, header lengths, alignment.
struct RandomModel {
  std::vector<ModelFile> files;
  std::vector<FileHeader> headers;
  std::vector<std::string> bytes;
};

RandomModel MakeRandomModel(std::mt19937& random) {
  constexpr DType kTypes[] = {DType::kBool, DType::kBf16, DType::kF32, DType::kF64, DType::kF4};
  RandomModel model;
  const uint32_t file_count = 1 + random() % 4;
  int next_name = 0;
  for (uint32_t file = 0; file < file_count; ++file) {
    const bool mixed = random() % 2 == 0;
    uint64_t offset = 8 + random() % 10'000;
    FileHeader header;
    header.header_bytes = offset;
    for (uint32_t i = 0, count = random() % 40; i < count; ++i) {
      const DType dtype = mixed ? kTypes[random() % 5] : DType::kF32;
      const uint64_t elements = random() % 10 == 0 ? 0 : 2 * (random() % 500);
      header.tensors.push_back(Tensor(absl::StrCat("t", next_name++), dtype, offset, elements));
      offset = header.tensors.back().bytes.end;
    }
    std::string bytes(offset, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    model.files.push_back(File(absl::StrCat("f", file), offset));
    model.headers.push_back(std::move(header));
    model.bytes.push_back(std::move(bytes));
  }
  return model;
}

// Carries out a plan as the loader does.
std::string Fill(const SegmentLayout& layout, const std::vector<Extent>& chunks,
                 const RandomModel& model) {
  std::string segment(layout.segment_bytes, '\0');
  std::vector<bool> written(segment.size());
  for (const Extent& chunk : chunks) {
    EXPECT_LE(chunk.offset + chunk.bytes.size(), segment.size());
    for (uint64_t i = 0; i < chunk.bytes.size(); ++i) {
      EXPECT_FALSE(written[chunk.offset + i]) << "two chunks write one byte";
      written[chunk.offset + i] = true;
      segment[chunk.offset + i] = model.bytes[chunk.file][chunk.bytes.begin + i];
    }
  }
  return segment;
}

TEST(LayoutAndPlan, EveryTensorOfRandomModelsComesOutWhole) {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    std::mt19937 random(seed);
    const RandomModel model = MakeRandomModel(random);
    const auto layout = LayOut(model.files, model.headers);
    ASSERT_TRUE(layout.ok()) << layout.status();
    const uint64_t chunk_bytes = kPageBytes * (1 + random() % 8);
    const auto chunks = PlanTransfer(layout->extents, chunk_bytes);
    for (const Extent& chunk : chunks) {
      ASSERT_LE(chunk.bytes.size(), chunk_bytes) << "seed " << seed;
      ASSERT_FALSE(chunk.bytes.empty()) << "seed " << seed;
    }
    const std::string segment = Fill(*layout, chunks, model);
    std::map<std::string, const Piece*> pieces;
    for (const Piece& piece : layout->pieces) pieces[piece.name] = &piece;
    for (size_t file = 0; file < model.files.size(); ++file) {
      for (const TensorEntry& tensor : model.headers[file].tensors) {
        const Piece& piece = *pieces.at(tensor.name);
        ASSERT_EQ(piece.nbytes, tensor.bytes.size());
        ASSERT_EQ(piece.file, file);
        ASSERT_EQ(piece.offset % DTypeAlignment(tensor.dtype), 0u) << "seed " << seed;
        ASSERT_LE(piece.offset + piece.nbytes, segment.size());
        ASSERT_EQ(memcmp(segment.data() + piece.offset,
                         model.bytes[file].data() + tensor.bytes.begin, piece.nbytes),
                  0)
            << "seed " << seed << " tensor " << tensor.name;
      }
    }
  }
}

}  // namespace
}  // namespace weightd::pipeline
