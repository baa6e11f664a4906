#include <gtest/gtest.h>

#include <limits>
#include <sstream>

#include "client/cli/json_writer.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "weightd/v1/admin.pb.h"

namespace weightd::cli {
namespace {

TEST(TextTest, Bytes) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(1023), "1023 B");
  EXPECT_EQ(BytesText(1536), "1.5 KiB");
  EXPECT_EQ(BytesText((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(BytesText(uint64_t{64} << 30), "64 GiB");
  EXPECT_EQ(BytesText(std::numeric_limits<uint64_t>::max()), "16 EiB");
}

TEST(TextTest, Durations) {
  EXPECT_EQ(DurationText(absl::ZeroDuration()), "0s");
  EXPECT_EQ(DurationText(absl::Seconds(-5)), "0s");
  EXPECT_EQ(DurationText(absl::Seconds(59)), "59s");
  EXPECT_EQ(DurationText(absl::Seconds(200)), "3m 20s");
  EXPECT_EQ(DurationText(absl::Hours(48)), "2d");
  EXPECT_EQ(DurationText(absl::Hours(52) + absl::Seconds(1)), "2d 4h");
}

TEST(TableTest, ShortensLongCells) {
  Table table({{"MODEL"}});
  std::string name = "http://host/";
  for (int i = 0; i < 2000; ++i) {
    name += "é";
  }
  table.AddRow({name + "/end"});
  std::ostringstream out;
  table.Print(out);
  EXPECT_LT(out.str().size(), 200u);
  EXPECT_NE(out.str().find("http://host/"), std::string::npos);
  EXPECT_NE(out.str().find("…"), std::string::npos);
  EXPECT_NE(out.str().find("/end"), std::string::npos);
}

TEST(TableTest, AlignsColumns) {
  Table table({{"NAME"}, {"SIZE", true}, {"STATE"}});
  table.AddRow({"é", "1", ""});
  table.AddRow({"long\tname", "1234567", "ok"});
  std::ostringstream out;
  table.Print(out);
  EXPECT_EQ(out.str(),
            "NAME             SIZE  STATE\n"
            "é                   1  -\n"
            "long\\x09name  1234567  ok\n");
}

TEST(JsonWriterTest, Escapes) {
  JsonWriter json;
  json.BeginObject().Key("a\"b").String("\\\n\x01é").EndObject();
  EXPECT_EQ(json.text(), R"({"a\"b":"\\\n\u0001é"})");
}

TEST(JsonWriterTest, WritesUtf8) {
  JsonWriter json;
  json.String("a\xff\xed\xa0\x80é");
  EXPECT_EQ(json.text(), "\"a????é\"");
}

TEST(JsonWriterTest, Nests) {
  JsonWriter json;
  json.BeginArray().Number(uint64_t{1}).BeginObject().EndObject().Bool(true).BeginArray();
  json.Signed(-1).Number(0.5).EndArray().EndArray();
  EXPECT_EQ(json.text(), "[1,{},true,[-1,0.5]]");
}

TEST(JsonWriterTest, WritesMessages) {
  v1::ModelSummary model;
  model.set_model("m");
  model.add_aliases("a");
  model.set_state(v1::RESIDENT);
  model.set_host_bytes(std::numeric_limits<uint64_t>::max());
  model.mutable_loaded_at()->set_seconds(1);
  JsonWriter json;
  json.Message(model);
  EXPECT_EQ(json.text(),
            R"({"model":"m","aliases":["a"],"state":"RESIDENT","revision":"",)"
            R"("host_bytes":18446744073709551615,"tensor_count":0,"file_count":0,"leases":0,)"
            R"("pinned":false,"stale":false,"loaded_at":"1970-01-01T00:00:01+00:00",)"
            R"("last_error":"","gpu_copies":[],"readopted":false,"uses":0})");
}

TEST(JsonWriterTest, WritesMapsAndDurations) {
  v1::DescribeModelResponse described;
  (*described.mutable_metadata())["k"] = "v";
  JsonWriter json;
  json.Message(described);
  EXPECT_NE(json.text().find(R"("metadata":{"k":"v"})"), std::string::npos) << json.text();
  v1::GetStatusResponse status;
  status.mutable_uptime()->set_seconds(2);
  JsonWriter uptime;
  uptime.Message(status);
  EXPECT_NE(uptime.text().find(R"("uptime":2,)"), std::string::npos) << uptime.text();
}

}  // namespace
}  // namespace weightd::cli
