#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"

namespace weightd::cli {
namespace {

// A safetensors file of this header and `data_bytes` zeros.
std::string WeightFile(const std::string& json, size_t data_bytes) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) {
    file[i] = static_cast<char>(uint64_t{json.size()} >> (8 * i) & 0xff);
  }
  return file + json + std::string(data_bytes, '\0');
}

class InspectTest : public testing::Test {
 protected:
  InspectTest() : folder_(testing::TempDir() + "/inspect") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  std::string Write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
    return folder_ + "/" + name;
  }

  int Inspect(const std::string& path, bool json = true) {
    Arguments arguments;
    arguments.command = Command::kInspect;
    arguments.model = path;
    arguments.json = json;
    out_.str("");
    return ExitCodeOf(RunCommand(arguments, {out_, err_}));
  }

  const std::string folder_;
  std::ostringstream out_;
  std::ostringstream err_;
};

constexpr char kHeader[] = R"({"__metadata__":{"format":"pt"},)"
                           R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                           R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})";

TEST_F(InspectTest, PrintsTheFixedInterface) {
  const std::string path = Write("m.safetensors", WeightFile(kHeader, 16));
  ASSERT_EQ(Inspect(path), kGood);
  const size_t data = 8 + sizeof(kHeader) - 1;
  EXPECT_EQ(out_.str(),
            R"({"tensors":[{"name":"a","dtype":"F32","shape":[],"offset":)" + std::to_string(data) +
                R"(,"nbytes":4},{"name":"b","dtype":"BF16","shape":[2,3],"offset":)" +
                std::to_string(data + 4) + R"(,"nbytes":12}],"metadata":{"format":"pt"}})" + "\n");
}

TEST_F(InspectTest, PrintsATable) {
  ASSERT_EQ(Inspect(Write("m.safetensors", WeightFile(kHeader, 16)), false), kGood);
  EXPECT_NE(out_.str().find("b       BF16   [2, 3]"), std::string::npos) << out_.str();
  EXPECT_NE(out_.str().find("2 tensors, 16 B"), std::string::npos) << out_.str();
}

TEST_F(InspectTest, FolderWithOneFile) {
  Write("m.safetensors", WeightFile(kHeader, 16));
  ASSERT_EQ(Inspect(folder_), kGood);
  EXPECT_NE(out_.str().find(R"("file":"m.safetensors")"), std::string::npos);
}

TEST_F(InspectTest, FolderWithShards) {
  Write("1.safetensors", WeightFile(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1));
  Write("2.safetensors", WeightFile(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1));
  const std::string index =
      R"({"metadata":{},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})";
  Write("model.safetensors.index.json", index);
  ASSERT_EQ(Inspect(folder_), kGood);
  EXPECT_NE(out_.str().find(R"("file":"2.safetensors")"), std::string::npos);
  Write("model.safetensors.index.json", R"({"weight_map":{"a":"1.safetensors"}})");
  EXPECT_EQ(Inspect(folder_), kGood);
  Write("model.safetensors.index.json", R"({"weight_map":{"b":"1.safetensors"}})");
  EXPECT_EQ(Inspect(folder_), kMalformedData);
}

TEST_F(InspectTest, ExitCodesSayWhatIsWrong) {
  EXPECT_EQ(Inspect(folder_ + "/none"), kNoSuchObject);
  EXPECT_EQ(Inspect(folder_), kNoSuchObject);
  EXPECT_EQ(Inspect(Write("empty.safetensors", "")), kMalformedData);
  EXPECT_EQ(Inspect(Write("short.safetensors", WeightFile(kHeader, 15))), kMalformedData);
  EXPECT_EQ(Inspect(Write("text", "hello, this is no weight file")), kMalformedData);
  ASSERT_EQ(mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(Inspect(folder_ + "/fifo"), kMalformedData);
}

}  // namespace
}  // namespace weightd::cli
