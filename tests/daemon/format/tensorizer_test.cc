#include "daemon/format/tensorizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/format/header.h"
#include "tests/daemon/format/tensorizer_reading.h"
#include "tests/fakes/tensorizer_file.h"

namespace weightd::format {
namespace {

using fakes::MakeTensorizerFile;
using fakes::TensorizerFile;
using fakes::TensorizerTensor;

constexpr uint8_t kParameter = 0;
constexpr uint8_t kStateDict = 2;

std::string Opaque(absl::string_view storage, absl::string_view name) {
  return absl::StrCat(storage, absl::string_view("\0torch.", 7), name);
}

TEST(Tensorizer, ReadsTheReferencesPlainFile) {
  const auto header = Read(Golden("v1"));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensorizer, (TensorizerTraits{1, false}));
  ASSERT_EQ(header->tensors.size(), 1);
  const TensorEntry& tensor = header->tensors[0];
  EXPECT_EQ(tensor.name, "a.w");
  EXPECT_EQ(tensor.dtype, DType::kF32);
  EXPECT_EQ(tensor.torch_type, "");
  EXPECT_EQ(tensor.shape, (std::vector<uint64_t>{2}));
  EXPECT_EQ(tensor.bytes, (ByteRange{213, 221}));
  EXPECT_EQ(tensor.nbytes, 8);
  EXPECT_EQ(tensor.record, (RecordPlace{{137, 213}, TensorKind::kParameter, false}));
}

TEST(Tensorizer, ReadsTheReferencesOpaqueTypeAndStructuredName) {
  const auto header = Read(Golden("v2"));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensorizer, (TensorizerTraits{2, false}));
  EXPECT_EQ(header->tensors[0].name, "\x1e[\"k\",0]");
  EXPECT_EQ(header->tensors[0].dtype, DType::kBf16);
  EXPECT_EQ(header->tensors[0].record->kind, TensorKind::kStateDict);
}

TEST(Tensorizer, ReadsTheReferencesEncryptedFile) {
  const auto header = Read(Golden("v3"));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensorizer, (TensorizerTraits{3, true}));
  EXPECT_EQ(header->tensors[0].bytes.size(), 1025);
}

TEST(Tensorizer, ReadsTheReferencesTensorOfZeros) {
  const auto header = Read(Golden("v4_meta"));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensorizer, (TensorizerTraits{4, false}));
  EXPECT_EQ(header->tensors[0].bytes, (ByteRange{215, 215}));
  EXPECT_EQ(header->tensors[0].nbytes, 16);
}

// What the other tests rely on: the fake writes what the reference does.
TEST(Tensorizer, TheFakesFilesAreTheReferences) {
  const TensorizerTensor plain{"a.w", "<f4", {2}, Golden("v1").substr(213, 8), kParameter, 3};
  EXPECT_EQ(MakeTensorizerFile({plain}, {.metadata_bytes = 64, .encryption = {}}).bytes,
            Golden("v1"));
  const TensorizerTensor opaque{
      "\x1e[\"k\",0]", Opaque("<V2", "bfloat16"), {1}, "\x80\x3f", kStateDict};
  EXPECT_EQ(MakeTensorizerFile({opaque}, {.metadata_bytes = 96, .encryption = {}}).bytes,
            Golden("v2"));
  const TensorizerTensor zeros{"m", "<f4", {2, 2}, ""};
  EXPECT_EQ(MakeTensorizerFile({zeros}, {.metadata_bytes = 64, .encryption = {}}).bytes,
            Golden("v4_meta"));
  TensorizerTensor secret{"e", "|u1", {1025}, ""};
  for (int i = 0; i < 1025; ++i) {
    secret.bytes += static_cast<char>(i);
  }
  fakes::TensorizerEncryption encryption;
  encryption.key = secret.bytes.substr(0, 32);
  encryption.nonce = secret.bytes.substr(0, 24);
  encryption.box_bytes = 1024;
  EXPECT_EQ(MakeTensorizerFile({secret}, {.metadata_bytes = 64, .encryption = encryption}).bytes,
            Golden("v3"));
}

TEST(Tensorizer, OrdersTensorsByTheirBytes) {
  // Entries that stand in another order than their records.
  TensorizerFile file = MakeTensorizerFile(
      {{"b", "|u1", {3}, "abc"}, {"none", "|u1", {0}, ""}, {"a", "|u1", {3}, "def"}});
  for (const char* field : {"header_offset", "data_offset"}) {
    const uint64_t first = file.Get(absl::StrCat("0.", field));
    file.Put(absl::StrCat("0.", field), file.Get(absl::StrCat("2.", field)));
    file.Put(absl::StrCat("2.", field), first);
  }
  const auto header = Read(file.bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->tensors.size(), 3);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[1].name, "none");
  EXPECT_TRUE(header->tensors[1].bytes.empty());
  EXPECT_EQ(header->tensors[1].nbytes, 0);
  EXPECT_EQ(header->tensors[2].name, "b");
}

TEST(Tensorizer, ReadsExtentsOf64BitsWhereAnEntrySaysSo) {
  const uint64_t wide = (uint64_t{1} << 32) + 1;
  const TensorizerFile file = MakeTensorizerFile(
      {{"a", "<f4", {2}, "12345678"}, {"l", "|u1", {wide, 0}, ""}, {"b", "|u1", {1}, "x"}});
  const auto header = Read(file.bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensorizer, (TensorizerTraits{5, false}));
  EXPECT_EQ(Named(*header, "l").shape, (std::vector<uint64_t>{wide, 0}));
  EXPECT_TRUE(Named(*header, "l").record->wide_shape);
  EXPECT_FALSE(Named(*header, "b").record->wide_shape);
  for (const TensorEntry& tensor : header->tensors) {
    EXPECT_TRUE(ReadRecord(file.bytes, *header, tensor).ok());
  }
}

TEST(Tensorizer, EncryptionIsAFlagSinceVersion4) {
  const std::vector<TensorizerTensor> tensors = {{"a", "|u1", {3}, "abc"}, {"z", "|u1", {3}, ""}};
  const auto plain = Read(MakeTensorizerFile(tensors).bytes);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->tensorizer, (TensorizerTraits{4, false}));
  const auto encrypted =
      Read(MakeTensorizerFile(tensors, {.encryption = fakes::TensorizerEncryption()}).bytes);
  ASSERT_TRUE(encrypted.ok()) << encrypted.status();
  EXPECT_EQ(encrypted->tensorizer, (TensorizerTraits{4, true}));
  // Before, the bit had no meaning.
  TensorizerFile old = MakeTensorizerFile({tensors[0]});
  old.Put("flags", 1);
  EXPECT_EQ(Read(old.bytes)->tensorizer, (TensorizerTraits{1, false}));
}

struct ElementCase {
  std::string dtype;
  size_t bytes;
  DType expected;
  std::string torch_type = {};
};

TEST(Tensorizer, ReadsElementTypes) {
  const std::vector<ElementCase> cases = {
      {"|b1", 1, DType::kBool},
      {"|i1", 1, DType::kI8},
      {"|u1", 1, DType::kU8},
      {"<i2", 2, DType::kI16},
      {"<u2", 2, DType::kU16},
      {"<i4", 4, DType::kI32},
      {"<u4", 4, DType::kU32},
      {"<i8", 8, DType::kI64},
      {"<u8", 8, DType::kU64},
      {"<f2", 2, DType::kF16},
      {"<f4", 4, DType::kF32},
      {"<f8", 8, DType::kF64},
      {"<c8", 8, DType::kC64},
      {"<c16", 16, DType::kC128},
      {"=f4", 4, DType::kF32},
      {"f4", 4, DType::kF32},
      {Opaque("<V2", "bfloat16"), 2, DType::kBf16},
      {Opaque("<V4", "complex32"), 4, DType::kC32},
      {Opaque("|V1", "float8_e4m3fn"), 1, DType::kF8E4m3},
      {Opaque("|V1", "float8_e5m2"), 1, DType::kF8E5m2},
      {Opaque("|V1", "float8_e4m3fnuz"), 1, DType::kF8E4m3fnuz},
      {Opaque("|V1", "float8_e5m2fnuz"), 1, DType::kF8E5m2fnuz},
      {Opaque("|V1", "float8_e8m0fnu"), 1, DType::kF8E8m0},
      {Opaque("|V1", "float4_e2m1fn_x2"), 1, DType::kU8, "float4_e2m1fn_x2"},
      {Opaque("|V1", "bits2x4"), 1, DType::kU8, "bits2x4"},
      {Opaque("<V2", "bits16"), 2, DType::kU16, "bits16"},
      {Opaque("|V1", "uint3"), 1, DType::kU8, "uint3"},
      {Opaque("|V1", "int7"), 1, DType::kI8, "int7"},
      {Opaque("<V4", "float24_of_tomorrow"), 4, DType::kU32, "float24_of_tomorrow"},
      {Opaque("<V8", "float48_of_tomorrow"), 8, DType::kU64, "float48_of_tomorrow"},
  };
  for (const ElementCase& element : cases) {
    const TensorizerFile file =
        MakeTensorizerFile({{"t", element.dtype, {3}, std::string(3 * element.bytes, 'x')}});
    const auto header = Read(file.bytes);
    ASSERT_TRUE(header.ok()) << element.dtype << header.status();
    EXPECT_EQ(header->tensors[0].dtype, element.expected) << element.dtype;
    EXPECT_EQ(header->tensors[0].torch_type, element.torch_type);
    EXPECT_EQ(header->tensors[0].shape, (std::vector<uint64_t>{3}));
    EXPECT_TRUE(ReadRecord(file.bytes, *header, header->tensors[0]).ok()) << element.dtype;
  }
}

TEST(Tensorizer, AnElementThatNoIntegerHoldsIsAnInnermostExtent) {
  const TensorizerFile file = MakeTensorizerFile({{"t", Opaque("<V3", "float24"), {2}, "abcdef"}});
  const auto header = Read(file.bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors[0].dtype, DType::kU8);
  EXPECT_EQ(header->tensors[0].torch_type, "float24");
  EXPECT_EQ(header->tensors[0].shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_TRUE(ReadRecord(file.bytes, *header, header->tensors[0]).ok());
}

absl::StatusOr<FileHeader> ReadNames(const std::vector<std::string>& names) {
  std::vector<TensorizerTensor> tensors;
  for (const std::string& name : names) {
    tensors.push_back({name, "|u1", {1}, "x", kStateDict});
  }
  return Read(MakeTensorizerFile(tensors, {.metadata_bytes = 1024, .encryption = {}}).bytes);
}

TEST(Tensorizer, KeepsNamesAsTheyAreWritten) {
  const std::vector<std::string> names = {
      ".weight",
      "caf\xC3\xA9\n",
      "a",
      "a.b",
      std::string("a\0b", 3),
      "[0]",
      "\x1e[\"s\",0]",
      "\x1e[\"s\",10,\"t\"]",
      "\x1e[\"s\",2]",
      "\x1e[ \"u\" , \"\\u00e9\\n\" ]",
      "\x1e[\"u\",\"\"]",
      "\x1e[\"n\\u0000\",\"x\"]",
      "\x1e[\"n\",\"x\"]",
  };
  const auto header = ReadNames(names);
  ASSERT_TRUE(header.ok()) << header.status();
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(header->tensors[i].name, names[i]);
  }
  EXPECT_TRUE(ReadNames({"\x1e[0]", "\x1e[1,\"a\"]", "\x1e[1,\"b\"]"}).ok());
}

TEST(Tensorizer, RefusesNamesThatMakeNoNest) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"a", ""}, "name is empty"},
      {{"a", "\x1e[]"}, "name is empty"},
      {{"a", "\x1e[\"\"]"}, "name is empty"},
      {{"b", "a", "b"}, "\"b\" stands twice"},
      {{"k", "\x1e[\"\\u006b\"]"}, "\"k\" stands twice"},
      {{"\x1e[\"k\",0]", "\x1e[\"k\", 0]"}, "\"k/i0\" stands twice"},
      {{"\x1e[\"k\",0]", "k"}, "leads through another tensor"},
      {{"\x1e[\"k\",\"x\"]", "\x1e[\"k\",\"x\",0]", "\x1e[\"k\",\"x-\"]"},
       "leads through another tensor"},
      {{"\x1e[\"k\",0]", "\x1e[\"k\",\"0\"]"}, "a sequence that also has keys"},
      {{"\x1e[0]", "k"}, "a sequence that also has keys"},
      {{"\x1e[\"k\",10,1]", "\x1e[\"k\",\"x\",2]"}, "a sequence that also has keys"},
      {{"\x1e"}, "must be a JSON array"},
      {{"\x1e{}"}, "must be a JSON array"},
      {{"\x1e[\"k\",0"}, "must be a JSON array"},
      {{" \x1e[0]", "\x1e [0]"}, "must be a JSON array"},
      {{"\x1e[0,\n1]"}, "on one line"},
      {{"\x1e[true]"}, "expected a value"},
      {{"\x1e[-1]"}, "unsigned 64-bit integer"},
      {{"\x1e[1.0]"}, "unsigned 64-bit integer"},
      {{"\x1e[null]"}, "expected a value"},
      {{"\x1e[[0]]"}, "expected a value"},
      {{"\x1e[18446744073709551616]"}, "unsigned 64-bit integer"},
      {{"\x1e[0][1]"}, "expected the end"},
      {{"\x1e[\"\\ud800\"]"}, "lone surrogate"},
      {{"a\xFF"}, "must be UTF-8"},
      {{"\x1e[\"\xC0\x80\"]"}, "must be UTF-8"},
  };
  for (const auto& [names, rule] : cases) {
    const auto header = ReadNames(names);
    ASSERT_FALSE(header.ok()) << rule << names[0];
    EXPECT_EQ(ReasonOf(header.status()), Reason::kMalformedModel);
    EXPECT_THAT(std::string(header.status().message()), testing::HasSubstr(rule));
  }
}

TEST(Tensorizer, StructuredNamesAreForStateDicts) {
  const TensorizerFile file = MakeTensorizerFile({{"\x1e[\"k\"]", "|u1", {1}, "x", kParameter}});
  ExpectMalformed(Read(file.bytes).status(), 75, "tensor of no state dict");
}

TEST(Tensorizer, ReadsManyTensors) {
  std::vector<TensorizerTensor> tensors;
  for (int i = 0; i < 2'000; ++i) {
    tensors.push_back({absl::StrCat("model.layers.", i, ".weight"), "<f2", {1, 2}, "abcd"});
  }
  const auto header =
      Read(MakeTensorizerFile(tensors, {.metadata_bytes = 256 << 10, .encryption = {}}).bytes);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors.size(), 2'000);
}

}  // namespace
}  // namespace weightd::format
