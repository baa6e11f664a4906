#include "daemon/format/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status.h"
#include "daemon/format/header.h"

namespace weightd::format {
namespace {

using ::testing::HasSubstr;

constexpr absl::string_view kTensor = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";

std::string File(absl::string_view json, size_t data_bytes) {
  std::string file;
  for (int shift = 0; shift < 64; shift += 8) {
    file.push_back(static_cast<char>(json.size() >> shift));
  }
  return absl::StrCat(file, json, std::string(data_bytes, 'x'));
}

absl::StatusOr<FileHeader> Read(const std::string& file) {
  return ReadHeader("m.safetensors", file.size(),
                    [&](ByteRange range) -> absl::StatusOr<std::string> {
                      EXPECT_LE(range.begin, range.end);
                      EXPECT_LE(range.end, file.size());
                      return file.substr(range.begin, range.size());
                    });
}

// `json` with $T for a valid F32 tensor's fields, over four bytes of data.
absl::StatusOr<FileHeader> ReadJson(absl::string_view json, size_t data_bytes = 4) {
  return Read(File(absl::StrReplaceAll(json, {{"$T", kTensor}}), data_bytes));
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirBytes) {
  const std::string file = File(
      R"( {"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"extra":[null,true,{"x":-0.5e-7}]}}  )",
      16);
  const auto header = Read(file);
  ASSERT_TRUE(header.ok()) << header.status();
  const uint64_t data = file.size() - 16;
  ASSERT_EQ(header->tensors.size(), 2);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[0].dtype, DType::kF32);
  EXPECT_TRUE(header->tensors[0].shape.empty());
  EXPECT_EQ(header->tensors[0].bytes, (ByteRange{data, data + 4}));
  EXPECT_EQ(header->tensors[1].name, "b");
  EXPECT_EQ(header->tensors[1].shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(header->tensors[1].bytes, (ByteRange{data + 4, data + 16}));
  EXPECT_EQ(header->tensors[1].nbytes, 12);
  EXPECT_EQ(header->metadata.at("format"), "pt");
}

TEST(Safetensors, UnescapesNames) {
  const auto header = ReadJson(R"({"a\u00e9\ud83d\ude00\n\/\u0000":{$T}})");
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors[0].name, std::string("a\xC3\xA9\xF0\x9F\x98\x80\n/\0", 10));
}

TEST(Safetensors, AcceptsWhatTheReferenceAccepts) {
  const std::string deep(125, '[');
  const std::string shallow(125, ']');
  for (
      const std::string& json : std::vector<std::string>{
          "{\"a\":{$T}}",
          "\t\r\n {\"a\":{$T}}\t\n  ",
          R"({"__metadata__":null,"a":{$T}})",
          R"({"__metadat\u0061__":{"k":"v"},"a":{$T}})",
          R"({"a":{"d\u0074ype":"F32","shape":[1],"data_offsets":[0,4]}})",
          R"({"":{$T}})",
          R"({"a":{$T,"x":123456789012345678901234567890}})",
          R"({"a":{$T,"x":-0,"x":0e99999999999999999999,"y":1e-99999}})",
          absl::StrCat(R"({"a":{$T,"x":)", deep, shallow, "}}"),
          R"({"a":{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}})",
          R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[1,4]},"b":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]}})",
          R"({"a":{$T},"z":{"dtype":"F64","shape":[0,4294967296,4294967296],"data_offsets":[4,4]},"y":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
      }) {
    EXPECT_TRUE(ReadJson(json).ok()) << json << ReadJson(json).status();
  }
  EXPECT_TRUE(ReadJson("{}", 0).ok());
}

// What the reference accepts and we don't: see safetensors.h.
TEST(Safetensors, RefusesAccidentsOfTheReference) {
  EXPECT_FALSE(ReadJson(R"({"a":["F32",[1],[0,4]]})").ok());
  EXPECT_FALSE(ReadJson(R"({"a":{"dtype":{"F32":null},"shape":[1],"data_offsets":[0,4]}})").ok());
  EXPECT_FALSE(ReadJson(R"({"a":{$T,"x":1.7976931348623157e308}})").ok());
}

struct Broken {
  std::string json;
  std::string rule;
};

TEST(Safetensors, RefusesWithFileOffsetAndRule) {
  const std::vector<Broken> cases = {
      // JSON.
      {"", "byte 8: expected an object"},
      {"[]", "byte 8: expected an object"},
      {"\xEF\xBB\xBF{}", "byte 8: expected an object"},
      {"\f{\"a\":{$T}}", "byte 8: expected an object"},
      {"{\"a\":{$T}}x", "expected the end"},
      {absl::StrCat("{\"a\":{$T}}", absl::string_view("\0", 1)), "expected the end"},
      {R"({"a":{$T},})", "expected a string"},
      {R"({"a":{$T)", "expected ',' or '}'"},
      {R"({"a" {$T}})", "byte 13: expected ':'"},
      {"{\"a\xFF\":{$T}}", "byte 11: the JSON must be UTF-8"},
      {"{\"a\xED\xA0\x80\":{$T}}", "byte 11: the JSON must be UTF-8"},
      {"{\"a\":{$T}} \xC0\x80", "the JSON must be UTF-8"},
      {"{\"a\x01\":{$T}}", "byte 11: control character"},
      {R"({"a\ud800":{$T}})", "byte 11: lone surrogate"},
      {R"({"a\ud800\ud800":{$T}})", "lone surrogate"},
      {R"({"a":{$T,"x":"\udc00"}})", "lone surrogate"},
      {R"({"a\x":{$T}})", "unknown escape"},
      {R"({"a\u12g4":{$T}})", "four hexadecimal digits"},
      {R"({"a)", "the string does not end"},
      {R"({"a":{$T,"x":01}})", "not a JSON number"},
      {R"({"a":{$T,"x":1.}})", "not a JSON number"},
      {R"({"a":{$T,"x":-}})", "not a JSON number"},
      {R"({"a":{$T,"x":+1}})", "expected a value"},
      {R"({"a":{$T,"x":trux}})", "expected a value"},
      {R"({"a":{$T,"x":1e999}})", "number out of range"},
      {absl::StrCat(R"({"a":{$T,"x":)", std::string(126, '['), std::string(126, ']'), "}}"),
       "nested deeper than 127"},
      // The header's own rules.
      {R"({"__metadata__":{},"__metadata__":null,"a":{$T}})", "__metadata__ stands twice"},
      {R"({"__metadata__":{"k":"v","k":"w"},"a":{$T}})", "metadata key \"k\" stands twice"},
      {R"({"__metadata__":{"k":null},"a":{$T}})", "expected a string"},
      {R"({"__metadata__":[],"a":{$T}})", "expected an object"},
      {R"({"a":{$T},"a":{$T}})", "tensor \"a\" stands twice"},
      {R"({"a":{$T,"dtype":"F32"}})", "a field stands twice"},
      {R"({"a":1,"b":{$T}})", "expected an object"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "byte 9: tensor \"a\" has no shape"},
      {R"({"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}})", "unknown dtype \"f32\""},
      {R"({"a":{"dtype":"C32","shape":[1],"data_offsets":[0,4]}})", "unknown dtype \"C32\""},
      {R"({"a":{"dtype":11,"shape":[1],"data_offsets":[0,4]}})", "expected a string"},
      {R"({"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}})", "expected an array"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "unsigned 64-bit integer"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}})", "unsigned 64-bit integer"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}})",
       "unsigned 64-bit integer"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", "[begin, end]"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}})", "[begin, end]"},
      // Offsets.
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}})", "begins at 1"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "belongs to no tensor"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "ends at 8, the file's at 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "ends before it begins"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,4]}})", "need 2 bytes"},
      {R"({"a":{$T},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})", "begins at 2"},
      {R"({"a":{$T},"z":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})", "begins at 2"},
      {R"({"a":{"dtype":"F4","shape":[7],"data_offsets":[0,4]}})", "no whole number of bytes"},
      {R"({"a":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})",
       "no whole number of bytes"},
      {R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})",
       "no whole number of bytes"},
  };
  for (const Broken& broken : cases) {
    const auto header = ReadJson(broken.json);
    ASSERT_FALSE(header.ok()) << broken.json;
    EXPECT_EQ(ReasonOf(header.status()), Reason::kMalformedModel) << broken.json;
    EXPECT_EQ(header.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(header.status().message()), HasSubstr("m.safetensors: byte "));
    EXPECT_THAT(std::string(header.status().message()), HasSubstr(broken.rule)) << broken.json;
  }
}

TEST(Safetensors, RefusesLengthsOutsideTheFile) {
  const std::string whole = File("{}", 0);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(ReasonOf(Read(whole.substr(0, size)).status()), Reason::kMalformedModel) << size;
  }
  std::string huge = File("{}", 0);
  huge[7] = '\x80';
  EXPECT_THAT(std::string(Read(huge).status().message()), HasSubstr("at most 100000000"));
  std::string json = absl::StrCat("{\"a\":{", kTensor, "}}");
  json.resize(kMaxSafetensorsHeaderBytes, ' ');
  EXPECT_TRUE(Read(File(json, 4)).ok());
  json.push_back(' ');
  EXPECT_FALSE(Read(File(json, 4)).ok());
}

TEST(Safetensors, PassesOnTheReadersError) {
  const auto header = ReadHeader("m", 100, [](ByteRange) -> absl::StatusOr<std::string> {
    return Error(Reason::kSourceUnavailable, "gone");
  });
  EXPECT_EQ(ReasonOf(header.status()), Reason::kSourceUnavailable);
  const auto short_read = ReadHeader("m", 100, [](ByteRange) { return std::string("x"); });
  EXPECT_EQ(ReasonOf(short_read.status()), Reason::kSourceProtocol);
}

TEST(Safetensors, ReadsAHundredThousandTensors) {
  std::string json = "{";
  for (int i = 0; i < 100'000; ++i) {
    absl::StrAppend(
        &json, i > 0 ? "," : "", "\"model.layers.", i,
        ".mlp.experts.gate_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[",
        i * 4, ",", i * 4 + 4, "]}");
  }
  json += "}";
  const auto header = ParseSafetensorsHeader(json, 8 + json.size() + 400'000, "m");
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors.size(), 100'000);
}

}  // namespace
}  // namespace weightd::format
