#include "client/cpp/tensor_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/status.h"
#include "weightd/v1/tensor_index.pb.h"

namespace weightd::client {
namespace {

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kOnGpu = uint64_t{2} << 40;

// A segment of 64 bytes that count up from 0, and an index over it.
class TensorTableTest : public testing::Test {
 protected:
  TensorTableTest() : segment_(64) {
    for (size_t i = 0; i < segment_.size(); ++i) {
      segment_[i] = static_cast<std::byte>(i);
    }
    index_.set_version(1);
    index_.set_segment_bytes(segment_.size());
  }

  v1::TensorPiece* Add(const std::string& name, v1::DType dtype, std::vector<uint64_t> shape,
                       uint64_t offset, uint64_t nbytes) {
    v1::TensorPiece* piece = index_.mutable_layout()->add_pieces();
    piece->set_name(name);
    piece->set_dtype(dtype);
    piece->mutable_shape()->Add(shape.begin(), shape.end());
    piece->set_offset(offset);
    piece->set_nbytes(nbytes);
    return piece;
  }

  absl::Span<const std::byte> Serialized() {
    serialized_ = index_.SerializeAsString();
    return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(serialized_.data()),
                               serialized_.size());
  }

  absl::StatusOr<std::unique_ptr<const TensorTable<Tensor>>> Parse(bool writable = true) {
    return TensorTable<Tensor>::Parse(Serialized(), {absl::MakeSpan(segment_), writable});
  }

  // Over an allocation of `bytes` bytes that begins at kOnGpu.
  absl::StatusOr<std::unique_ptr<const TensorTable<DeviceTensor>>> ParseOnGpu(uint64_t bytes) {
    return TensorTable<DeviceTensor>::Parse(Serialized(), {kOnGpu, bytes});
  }

  Reason ReasonOfParse() { return ReasonOf(Parse().status()); }

  std::vector<std::byte> segment_;
  v1::TensorIndex index_;
  std::string serialized_;
};

TEST_F(TensorTableTest, FindsTensorsByName) {
  Add("a", v1::U8, {3}, 1, 3);
  Add("b", v1::F32, {}, 8, 4);
  const auto table = Parse();
  ASSERT_TRUE(table.ok()) << table.status();
  ASSERT_EQ((*table)->tensors().size(), 2u);
  const Tensor* a = (*table)->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype(), DType::kU8);
  EXPECT_EQ(a->offset(), 1u);
  EXPECT_EQ(a->bytes().data(), segment_.data() + 1);
  EXPECT_EQ(a->shape(), absl::MakeConstSpan({uint64_t{3}}));
  EXPECT_TRUE((*table)->Find("b")->shape().empty());
  EXPECT_EQ((*table)->Find("c"), nullptr);
  EXPECT_EQ((*table)->Find(""), nullptr);
}

TEST_F(TensorTableTest, GivesTypedViews) {
  Add("bf16", v1::BF16, {2}, 2, 4);
  Add("f32", v1::F32, {2, 2}, 16, 16);
  Add("odd", v1::F32, {1}, 33, 4);
  Add("packed", v1::F4, {2}, 0, 1);
  const auto table = Parse();
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ((*table)->Find("f32")->As<float>()->size(), 4u);
  EXPECT_EQ((*table)->Find("bf16")->As<uint16_t>()->size(), 2u);
  EXPECT_FALSE((*table)->Find("f32")->As<double>().ok());
  EXPECT_FALSE((*table)->Find("bf16")->As<float>().ok());
  EXPECT_FALSE((*table)->Find("odd")->As<float>().ok());
  EXPECT_FALSE((*table)->Find("packed")->As<uint8_t>().ok());
  EXPECT_EQ((*table)->Find("packed")->bytes().size(), 1u);
}

TEST_F(TensorTableTest, TellsTypesThatOnlyTorchHas) {
  Add("bits", v1::U16, {2}, 0, 4)->set_torch_type("bits16");
  Add("plain", v1::U16, {2}, 4, 4);
  const auto table = Parse();
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ((*table)->Find("bits")->torch_type(), "bits16");
  EXPECT_EQ((*table)->Find("bits")->As<uint16_t>()->size(), 2u);
  EXPECT_EQ((*table)->Find("plain")->torch_type(), "");
}

TEST_F(TensorTableTest, FindsAndListsTiedWeightsByEachName) {
  Add("b", v1::U8, {3}, 1, 3)->set_torch_type("bits8");
  Add("c", v1::F32, {}, 8, 4);
  auto& metadata = *index_.mutable_metadata();
  metadata["d"] = "b";
  metadata["a"] = "b";
  const auto table = Parse();
  ASSERT_TRUE(table.ok()) << table.status();
  std::string names;
  for (const Tensor& tensor : (*table)->tensors()) {
    names += absl::StrCat(tensor.name(), "=", tensor.alias_of(), " ");
  }
  EXPECT_EQ(names, "a=b b= c= d=b ");
  const Tensor* const a = (*table)->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->bytes().data(), segment_.data() + 1);
  EXPECT_EQ(a->offset(), 1u);
  EXPECT_EQ(a->shape(), absl::MakeConstSpan({uint64_t{3}}));
  EXPECT_EQ(a->torch_type(), "bits8");
  ASSERT_TRUE(a->mutable_bytes().ok());
  (*a->mutable_bytes())[0] = std::byte{77};
  EXPECT_EQ((*table)->Find("b")->bytes()[0], std::byte{77});
}

TEST_F(TensorTableTest, MetadataNamesTensorsOnlyWhereItCan) {
  for (const char* const name : {"a", "b", "pt"}) {
    Add(name, v1::U8, {1}, 0, 1);
  }
  auto& metadata = *index_.mutable_metadata();
  metadata["format"] = "pt";        // never
  metadata["a"] = "b";              // is stored itself
  metadata["author"] = "somebody";  // nothing of that name
  metadata["also"] = "a";
  metadata["further"] = "also";  // a name of a name
  metadata["round"] = "about";   // a circle
  metadata["about"] = "round";
  metadata["self"] = "self";
  metadata[""] = "";
  metadata["odd"] = std::string("a\0", 2);
  const auto table = Parse();
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ((*table)->tensors().size(), 4u);
  EXPECT_EQ((*table)->Find("also")->alias_of(), "a");
  EXPECT_EQ((*table)->Find("a")->alias_of(), "");
  for (const char* const name :
       {"format", "author", "somebody", "further", "round", "about", "self", "", "odd"}) {
    EXPECT_EQ((*table)->Find(name), nullptr) << name;
  }
}

TEST_F(TensorTableTest, ManyNamesOfOneTensorAreNoHarm) {
  Add("a", v1::U8, {1}, 0, 1);
  for (int i = 0; i < 100'000; ++i) {
    (*index_.mutable_metadata())[absl::StrCat("name", i)] = "a";
  }
  const auto table = Parse();
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ((*table)->tensors().size(), 100'001u);
  EXPECT_EQ((*table)->Find("name99999")->bytes().data(), segment_.data());
}

TEST_F(TensorTableTest, FindsTensorsOfAModuleWithoutTheirDot) {
  Add(".bias", v1::U8, {1}, 0, 1);
  Add(".weight", v1::U8, {1}, 1, 1);
  Add("bias", v1::U8, {1}, 2, 1);
  (*index_.mutable_metadata())["weight"] = "bias";
  const auto table = Parse();
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ((*table)->Find("bias")->offset(), 2u);
  EXPECT_EQ((*table)->Find("weight")->offset(), 1u);
}

TEST_F(TensorTableTest, RefusesStoresToReadOnlyMappings) {
  Add("a", v1::U8, {3}, 0, 3);
  EXPECT_TRUE((*Parse(true))->Find("a")->mutable_bytes().ok());
  EXPECT_FALSE((*Parse(false))->Find("a")->mutable_bytes().ok());
}

TEST_F(TensorTableTest, AcceptsEmptyTensorsAtTheEnd) {
  Add("a", v1::F32, {0, 7}, 64, 0);
  EXPECT_TRUE(Parse().ok());
}

TEST_F(TensorTableTest, RefusesRangesBeyondTheSegment) {
  Add("a", v1::U8, {8}, 57, 8);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
}

TEST_F(TensorTableTest, RefusesRangesThatWrapAround) {
  Add("a", v1::U8, {8}, kHuge - 3, 8);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
}

TEST_F(TensorTableTest, RefusesSizesThatShapeDoesNotGive) {
  Add("a", v1::F32, {2}, 0, 4);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
}

TEST_F(TensorTableTest, RefusesShapesThatOverflow) {
  Add("a", v1::F32, {uint64_t{1} << 62, 4}, 0, 0);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
}

TEST_F(TensorTableTest, RefusesUnknownElementTypes) {
  Add("a", static_cast<v1::DType>(99), {1}, 0, 1);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
  index_.mutable_layout()->mutable_pieces(0)->set_dtype(v1::DTYPE_UNSPECIFIED);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
}

TEST_F(TensorTableTest, RefusesUnorderedAndRepeatedNames) {
  Add("b", v1::U8, {1}, 0, 1);
  Add("a", v1::U8, {1}, 1, 1);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
  index_.mutable_layout()->mutable_pieces(1)->set_name("b");
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
}

TEST_F(TensorTableTest, PutsTensorsWhereTheyLieOnTheGpu) {
  Add("a", v1::U8, {3}, 1, 3)->set_device_offset(256);
  Add("b", v1::F32, {2}, 8, 8)->set_device_offset(0);
  (*index_.mutable_metadata())["tied"] = "a";
  index_.set_device_bytes(259);
  index_.set_segment_bytes(1);  // of host memory, which isn't here
  const auto table = ParseOnGpu(2 << 20);
  ASSERT_TRUE(table.ok()) << table.status();
  const DeviceTensor* const a = (*table)->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->pointer(), kOnGpu + 256);
  EXPECT_EQ(a->offset(), 256u);
  EXPECT_EQ(a->nbytes(), 3u);
  EXPECT_EQ((*table)->Find("b")->pointer(), kOnGpu);
  EXPECT_EQ((*table)->Find("tied")->pointer(), kOnGpu + 256);
  EXPECT_EQ((*table)->Find("tied")->alias_of(), "a");
}

TEST_F(TensorTableTest, RefusesRangesBeyondTheSegmentOnTheGpu) {
  v1::TensorPiece* const piece = Add("a", v1::U8, {8}, 0, 8);
  index_.set_device_bytes(64);
  EXPECT_TRUE(ParseOnGpu(64).ok());
  EXPECT_EQ(ReasonOf(ParseOnGpu(63).status()), Reason::kMalformedModel);
  for (const uint64_t offset : {uint64_t{57}, uint64_t{65}, kHuge - 3}) {
    piece->set_device_offset(offset);
    EXPECT_EQ(ReasonOf(ParseOnGpu(2 << 20).status()), Reason::kMalformedModel) << offset;
  }
}

TEST_F(TensorTableTest, AcceptsStridesInsideTheirBytes) {
  // Every second element of eight.
  Add("a", v1::U16, {4}, 0, 16)->add_strides(2);
  const auto table = Parse();
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_FALSE((*table)->Find("a")->As<uint16_t>().ok());
}

TEST_F(TensorTableTest, RefusesStridesBeyondTheirBytes) {
  v1::TensorPiece* piece = Add("a", v1::U16, {4}, 0, 8);
  piece->add_strides(2);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
  piece->set_strides(0, -1);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
  piece->set_strides(0, std::numeric_limits<int64_t>::max());
  piece->set_shape(0, kHuge);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
}

TEST_F(TensorTableTest, RefusesOtherSegments) {
  index_.set_segment_bytes(63);
  EXPECT_EQ(ReasonOfParse(), Reason::kMalformedModel);
}

TEST_F(TensorTableTest, RefusesLaterVersions) {
  index_.set_version(2);
  EXPECT_EQ(ReasonOfParse(), Reason::kUnsupported);
}

TEST_F(TensorTableTest, RefusesGarbage) {
  const std::vector<std::byte> garbage(16, std::byte{0xff});
  EXPECT_EQ(
      ReasonOf(TensorTable<Tensor>::Parse(garbage, {absl::MakeSpan(segment_), true}).status()),
      Reason::kMalformedModel);
}

}  // namespace
}  // namespace weightd::client
