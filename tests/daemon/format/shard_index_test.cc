#include "daemon/format/shard_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::format {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

FileHeader Holding(const std::vector<std::string>& names) {
  FileHeader header;
  for (const std::string& name : names) {
    header.tensors.emplace_back().name = name;
  }
  return header;
}

ShardIndex TwoShards() {
  auto index = ParseShardIndex(
      R"({"metadata":{"total_size":12},"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}})",
      "i.json");
  EXPECT_TRUE(index.ok()) << index.status();
  return *std::move(index);
}

std::string CheckMessage(const std::vector<FileHeader>& headers) {
  const absl::Status status = CheckShards(TwoShards(), headers, "i.json");
  EXPECT_EQ(ReasonOf(status), Reason::kMalformedModel) << status;
  return std::string(status.message());
}

TEST(ShardIndex, ListsEachFileOnceSorted) {
  const ShardIndex index = TwoShards();
  EXPECT_THAT(index.files, ElementsAre("1.safetensors", "2.safetensors"));
  EXPECT_EQ(index.weight_map.at("c"), "1.safetensors");
}

TEST(ShardIndex, RefusesMalformedIndexes) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "byte 0: expected an object"},
      {"{}", "weight_map is missing or empty"},
      {R"({"weight_map":{}})", "weight_map is missing or empty"},
      {R"({"weight_map":[]})", "byte 14: expected an object"},
      {R"({"weight_map":{"a":1}})", "expected a string"},
      {R"({"weight_map":{"a":"x"},"weight_map":{"b":"x"}})", "weight_map stands twice"},
      {R"({"weight_map":{"a":"x","a":"y"}})", "tensor \"a\" stands twice"},
      {R"({"metadata":{"x":1e999},"weight_map":{"a":"x"}})", "number out of range"},
      {R"({"weight_map":{"a":"x"}} 1)", "expected the end"},
  };
  for (const auto& [json, rule] : cases) {
    const auto index = ParseShardIndex(json, "i.json");
    ASSERT_FALSE(index.ok()) << json;
    EXPECT_THAT(std::string(index.status().message()), HasSubstr(absl::StrCat("i.json: byte ")))
        << json;
    EXPECT_THAT(std::string(index.status().message()), HasSubstr(rule)) << json;
  }
}

TEST(ShardIndex, FilesStayInsideTheFolder) {
  for (const std::string file : {"/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "./a",
                                 "a//b", "a/", "", R"(a\\..\\b)", R"(a\u0000b)", R"(a\nb)"}) {
    const auto index =
        ParseShardIndex(absl::StrCat(R"({"weight_map":{"t":")", file, R"("}})"), "i.json");
    ASSERT_FALSE(index.ok()) << file;
    EXPECT_THAT(std::string(index.status().message()), HasSubstr("inside the model's folder"))
        << file;
  }
  EXPECT_TRUE(ParseShardIndex(R"({"weight_map":{"t":"sub/..x/a.safetensors"}})", "i.json").ok());
}

TEST(ShardIndex, BoundsTheNumberOfFiles) {
  std::string json = R"({"weight_map":{)";
  for (size_t i = 0; i <= kMaxShards; ++i) {
    absl::StrAppend(&json, i > 0 ? "," : "", "\"", i, "\":\"f", i, "\"");
  }
  const auto index = ParseShardIndex(absl::StrCat(json, "}}"), "i.json");
  EXPECT_THAT(std::string(index.status().message()), HasSubstr("more than 10000 files"));
}

TEST(ShardIndex, AgreesWithItsFiles) {
  EXPECT_TRUE(CheckShards(TwoShards(), {Holding({"c", "a"}), Holding({"b"})}, "i.json").ok());
}

TEST(ShardIndex, NamesWhatDisagrees) {
  EXPECT_THAT(CheckMessage({Holding({"a"}), Holding({"b"})}),
              HasSubstr("tensor \"c\" should be in \"1.safetensors\" but is not"));
  EXPECT_THAT(CheckMessage({Holding({"a", "c", "d"}), Holding({"b"})}),
              HasSubstr("tensor \"d\" is in \"1.safetensors\" but not in the index"));
  EXPECT_THAT(CheckMessage({Holding({"a", "c"}), Holding({"b", "a"})}),
              HasSubstr("tensor \"a\" is in two files, \"1.safetensors\" and \"2.safetensors\""));
  EXPECT_THAT(CheckMessage({Holding({"a"}), Holding({"b", "c"})}),
              HasSubstr("tensor \"c\" should be in \"1.safetensors\" but is in \"2.safetensors\""));
}

}  // namespace
}  // namespace weightd::format
