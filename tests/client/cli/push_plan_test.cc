#include "client/cli/push_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "client/cli/push.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::cli {
namespace {

using fakes::F32Tensor;
using fakes::SafetensorsFile;
using fakes::ShardIndexFile;
using testing::ElementsAre;
using testing::HasSubstr;
using Role = source::FileToUpload::Role;

class PushPlanTest : public testing::Test {
 protected:
  PushPlanTest() : folder_(testing::TempDir() + "/push_plan") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  std::string Write(const std::string& name, const std::string& bytes) {
    const std::filesystem::path path = folder_ + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }

  void WriteShards() {
    Write("1.safetensors", SafetensorsFile({F32Tensor("a", 4, 1)}));
    Write("2.safetensors", SafetensorsFile({F32Tensor("b", 4, 2)}));
    Write("model.safetensors.index.json",
          ShardIndexFile({{"a", "1.safetensors"}, {"b", "2.safetensors"}}));
  }

  // URIs without their bucket, in order.
  static std::vector<std::string> Keys(const absl::StatusOr<PushPlan>& plan) {
    std::vector<std::string> keys;
    for (const source::FileToUpload& file : plan->files) {
      keys.push_back(file.object.path());
    }
    return keys;
  }

  static std::vector<std::string> Paths(const std::vector<Uri>& uris) {
    std::vector<std::string> paths;
    for (const Uri& uri : uris) {
      paths.push_back(uri.path());
    }
    return paths;
  }

  Reason Refusal(const std::string& path, const std::string& target = "s3://bucket/m/",
                 bool follow_links = false) {
    const absl::Status status = PlanPush(path, target, follow_links).status();
    message_ = std::string(status.message());
    hint_ = HintOf(status);
    return ReasonOf(status);
  }

  const std::string folder_;
  std::string message_;
  std::string hint_;
};

TEST_F(PushPlanTest, AFileGoesToANameOrIntoAFolder) {
  const std::string path = Write("m.safetensors", SafetensorsFile({F32Tensor("a", 4, 1)}));
  EXPECT_THAT(Keys(PlanPush(path, "s3://bucket/x/other", false)), ElementsAre("/x/other"));
  EXPECT_THAT(Keys(PlanPush(path, "s3://bucket/x/", false)), ElementsAre("/x/m.safetensors"));
  EXPECT_THAT(Keys(PlanPush(path, "s3://bucket", false)), ElementsAre("/m.safetensors"));
}

TEST_F(PushPlanTest, AFolderGoesWithAllThatIsNotHidden) {
  WriteShards();
  Write("config.json", "{}");
  Write("tokenizer/vocab.txt", "a");
  Write(".git/config", "x");
  Write(".hidden", "x");
  const auto plan = PlanPush(folder_, "s3://bucket/m", false);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(Keys(plan), ElementsAre("/m/1.safetensors", "/m/2.safetensors", "/m/config.json",
                                      "/m/model.safetensors.index.json", "/m/tokenizer/vocab.txt"));
  EXPECT_EQ(plan->files[0].role, Role::kWeights);
  EXPECT_EQ(plan->files[2].role, Role::kOther);
  EXPECT_EQ(plan->files[3].role, Role::kIndex);
  EXPECT_TRUE(plan->stored.must_be_absent.empty());
}

TEST_F(PushPlanTest, WeightsWithoutAnIndexWantNoneThere) {
  Write("model.safetensors", SafetensorsFile({F32Tensor("a", 4, 1)}));
  Write("vae/model.safetensors", SafetensorsFile({F32Tensor("a", 4, 1)}));
  Write("scheduler/config.json", "{}");
  const auto plan = PlanPush(folder_, "s3://bucket/m/", false);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(
      Paths(plan->stored.must_be_absent),
      ElementsAre("/m/model.safetensors.index.json", "/m/vae/model.safetensors.index.json"));
}

TEST_F(PushPlanTest, AnIndexIsKnownByTheObjectsThatItNames) {
  WriteShards();
  Write("3.safetensors", SafetensorsFile({F32Tensor("c", 4, 3)}));
  const auto plan = PlanPush(folder_, "s3://bucket/a b/m/", false);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(Paths(plan->files.back().names),
              ElementsAre("/a%20b/m/1.safetensors", "/a%20b/m/2.safetensors"));
}

TEST_F(PushPlanTest, IndexesThatMayNameTheWeightsAreMinded) {
  WriteShards();
  Write("sub/model.safetensors", SafetensorsFile({F32Tensor("a", 4, 1)}));
  const auto folder = PlanPush(folder_, "s3://bucket/x/m/", false);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_THAT(Paths(folder->stored.others),
              ElementsAre("/x/model.safetensors.index.json", "/model.safetensors.index.json"));
  const auto file = PlanPush(folder_ + "/1.safetensors", "s3://bucket/x/m/", false);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(Paths(file->stored.others),
              ElementsAre("/x/m/model.safetensors.index.json", "/x/model.safetensors.index.json",
                          "/model.safetensors.index.json"));
  Write("config.json", "{}");
  EXPECT_THAT(PlanPush(folder_ + "/config.json", "s3://bucket/x/m/", false)->stored.others,
              testing::IsEmpty());
}

TEST_F(PushPlanTest, AStoredIndexIsReadAsTheDaemonReadsIt) {
  WriteShards();
  const auto plan = PlanPush(folder_, "s3://bucket/m/", false);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const Uri index = *Uri::Parse("s3://bucket/x/model.safetensors.index.json");
  const auto names =
      plan->stored.parse(index, ShardIndexFile({{"a", "1.safetensors"}, {"b", "sub/2"}}));
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_THAT(Paths(*names), ElementsAre("/x/1.safetensors", "/x/sub/2"));
  EXPECT_FALSE(plan->stored.parse(index, "no index").ok());
}

TEST_F(PushPlanTest, AFileThatReadersTakeForWeightsIsCheckedAsSuch) {
  const std::string path = Write("blob", "this is no weight file");
  EXPECT_TRUE(PlanPush(path, "s3://bucket/m/blob", false).ok());
  EXPECT_EQ(Refusal(path, "s3://bucket/m/1.safetensors"), Reason::kMalformedModel);
}

TEST_F(PushPlanTest, WhatTheDaemonWouldNotTakeIsRefused) {
  WriteShards();
  Write("extra.safetensors", "this is no weight file");
  EXPECT_EQ(Refusal(folder_), Reason::kMalformedModel);
  EXPECT_THAT(message_, HasSubstr("extra.safetensors"));
  std::filesystem::remove(folder_ + "/extra.safetensors");
  Write("2.safetensors", SafetensorsFile({F32Tensor("c", 4, 2)}));
  EXPECT_EQ(Refusal(folder_), Reason::kMalformedModel);
  std::filesystem::remove(folder_ + "/2.safetensors");
  EXPECT_EQ(Refusal(folder_), Reason::kModelNotFound);
}

TEST_F(PushPlanTest, AShardThatIsHiddenIsRefused) {
  Write(".1.safetensors", SafetensorsFile({F32Tensor("a", 4, 1)}));
  Write("model.safetensors.index.json", ShardIndexFile({{"a", ".1.safetensors"}}));
  EXPECT_EQ(Refusal(folder_), Reason::kMalformedModel);
}

TEST_F(PushPlanTest, LinksStayInTheFolder) {
  Write("m/blobs/1", SafetensorsFile({F32Tensor("a", 4, 1)}));
  Write("outside", "secret");
  std::filesystem::create_symlink("blobs/1", folder_ + "/m/model.safetensors");
  const std::string folder = folder_ + "/m";
  EXPECT_THAT(Keys(PlanPush(folder, "s3://bucket/m/", false)),
              ElementsAre("/m/blobs/1", "/m/model.safetensors"));
  std::filesystem::create_symlink("../outside", folder + "/notes");
  EXPECT_EQ(Refusal(folder), Reason::kInvalidArgument);
  EXPECT_TRUE(PlanPush(folder, "s3://bucket/m/", true).ok());
  std::filesystem::create_symlink(".", folder + "/again");
  EXPECT_EQ(Refusal(folder, "s3://bucket/m/", true), Reason::kInvalidArgument);
  std::filesystem::remove(folder + "/again");
}

TEST_F(PushPlanTest, LinksThatLeadNowhereAreNamed) {
  WriteShards();
  const std::string link = folder_ + "/link.safetensors";
  for (const char* target : {"nowhere", "link.safetensors"}) {
    std::filesystem::create_symlink(target, link);
    for (const std::string& path : {folder_, link}) {
      EXPECT_EQ(Refusal(path), Reason::kModelNotFound) << path;
      EXPECT_THAT(message_, HasSubstr(link));
      EXPECT_THAT(hint_, HasSubstr("link"));
    }
    std::filesystem::remove(link);
  }
}

TEST_F(PushPlanTest, AFileWhoseNameNoObjectCanHaveIsNamed) {
  for (const auto& [name, shown] : {std::pair("a\n.safetensors", "/a\\x0a.safetensors"),
                                    {"\xff.safetensors", "/\\xff.safetensors"}}) {
    const std::string path = Write(name, SafetensorsFile({F32Tensor("a", 4, 1)}));
    for (const std::string& named : {path, folder_}) {
      EXPECT_EQ(Refusal(named), Reason::kInvalidArgument);
      EXPECT_THAT(message_, HasSubstr(folder_ + shown));
      EXPECT_THAT(hint_, HasSubstr("rename"));
    }
    std::filesystem::remove(path);
  }
}

TEST_F(PushPlanTest, AnEndpointWithUserInfoIsRefused) {
  PushRequest request;
  request.path = folder_;
  request.target = "s3://bucket/m/";
  request.store.endpoint = "https://me:secret@store";
  Cancellation cancellation;
  const absl::Status status =
      Push(request, [](const source::UploadProgress&) {}, cancellation).status();
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("AWS_ENDPOINT_URL"));
  EXPECT_THAT(status.ToString(), testing::Not(HasSubstr("secret")));
}

TEST_F(PushPlanTest, WhatMakesNoSenseIsRefused) {
  EXPECT_EQ(Refusal(folder_), Reason::kModelNotFound);
  WriteShards();
  EXPECT_EQ(Refusal(folder_ + "/none"), Reason::kModelNotFound);
  EXPECT_EQ(Refusal(folder_ + "/model.safetensors.index.json"), Reason::kInvalidArgument);
  EXPECT_EQ(Refusal(folder_, "https://host/m/"), Reason::kInvalidUri);
  EXPECT_EQ(Refusal(folder_, "s3://bucket/m/?versionId=1"), Reason::kInvalidUri);
  EXPECT_EQ(Refusal(folder_, "s3://user:secret@bucket/m/"), Reason::kInvalidUri);
  EXPECT_THAT(message_, testing::Not(HasSubstr("secret")));
  ASSERT_EQ(mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
  EXPECT_EQ(Refusal(folder_), Reason::kInvalidArgument);
}

}  // namespace
}  // namespace weightd::cli
