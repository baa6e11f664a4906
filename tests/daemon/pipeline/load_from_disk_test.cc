// The loader over the real file source: what is on the disk is what is mapped.

#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/file/file_source.h"
#include "daemon/source/registry.h"
#include "daemon/source/source.h"
#include "gtest/gtest.h"
#include "tests/fakes/safetensors_file.h"

namespace weightd::pipeline {
namespace {

using fakes::F32Tensor;
using fakes::SafetensorsFile;
using fakes::TensorToWrite;

class LoadFromDiskTest : public testing::Test {
 protected:
  LoadFromDiskTest() {
    std::string pattern = absl::StrCat(testing::TempDir(), "/models.XXXXXX");
    folder_ = mkdtemp(pattern.data());
    registry_.Add("file", source::MakeFileSource({.roots = {folder_.string()}}));
    host::HostTierOptions options;
    options.budget = uint64_t{256} << 20;
    tier_ = std::make_shared<host::HostTier>(std::move(options));
  }
  ~LoadFromDiskTest() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
  }

  absl::StatusOr<ResidentModel> Load(const std::string& path) {
    const auto loader =
        MakeModelLoader(&registry_, [](const ModelIndex&) { return std::string("index"); }, {});
    Cancellation cancellation;
    Progress progress;
    ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(path));
    ASSIGN_OR_RETURN(const ResolvedModel resolved, loader->Resolve(uri, {}, {}, cancellation));
    return loader->Load(
        resolved, {}, /*key=*/std::nullopt,
        [this](uint64_t bytes) { return tier_->Reserve(bytes); }, /*destinations=*/{}, progress,
        cancellation);
  }

  static void ExpectTensors(const ResidentModel& model, const std::vector<TensorToWrite>& tensors) {
    ASSERT_EQ(model.index.pieces.size(), tensors.size());
    for (const Piece& piece : model.index.pieces) {
      for (const TensorToWrite& tensor : tensors) {
        if (tensor.name == piece.name) {
          const auto* const bytes =
              reinterpret_cast<const char*>(model.weights->bytes().data()) + piece.offset;
          EXPECT_TRUE(std::string(bytes, piece.nbytes) == tensor.bytes) << tensor.name;
        }
      }
    }
  }

  std::filesystem::path folder_;
  source::Registry registry_;
  std::shared_ptr<host::HostTier> tier_;
};

TEST_F(LoadFromDiskTest, AFileInEveryAlignment) {
  const std::vector<TensorToWrite> tensors = {F32Tensor("a", 3'000'000, 1), F32Tensor("b", 777, 2)};
  for (uint64_t misalignment = 0; misalignment < 8; ++misalignment) {
    Write("m.safetensors",
          SafetensorsFile(tensors, {.misalignment = misalignment, .metadata = {}}));
    const auto model = Load((folder_ / "m.safetensors").string());
    ASSERT_TRUE(model.ok()) << model.status();
    ExpectTensors(*model, tensors);
  }
}

TEST_F(LoadFromDiskTest, AFileWhoseTensorsLieOddly) {
  const std::vector<TensorToWrite> tensors = {{"odd", "U8", {5}, "12345"},
                                              F32Tensor("a", 2'000'000, 1)};
  Write("m.safetensors", SafetensorsFile(tensors));
  const auto model = Load((folder_ / "m.safetensors").string());
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, tensors);
}

TEST_F(LoadFromDiskTest, AFolderOfShardsWithoutASlash) {
  std::vector<TensorToWrite> all;
  std::map<std::string, std::string> weight_map;
  for (uint32_t shard = 0; shard < 5; ++shard) {
    all.push_back(F32Tensor(absl::StrCat("t", shard), 100'000 + shard, shard));
    const std::string name = absl::StrCat("s", shard, ".safetensors");
    weight_map[all.back().name] = name;
    Write(name, SafetensorsFile({all.back()}));
  }
  Write("model.safetensors.index.json", fakes::ShardIndexFile(weight_map));
  const auto model = Load(folder_.string());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->index.files.size(), 5u);
  ExpectTensors(*model, all);
}

TEST_F(LoadFromDiskTest, AFolderWithOneFileOfAnyName) {
  const std::vector<TensorToWrite> tensors = {F32Tensor("a", 1000, 1)};
  Write("weights.safetensors", SafetensorsFile(tensors));
  Write("config.json", "{}");
  const auto model = Load(absl::StrCat(folder_.string(), "/"));
  ASSERT_TRUE(model.ok()) << model.status();
  ExpectTensors(*model, tensors);
}

TEST_F(LoadFromDiskTest, WhatLiesOutsideTheRootsIsRefused) {
  for (const char* path : {"/etc/passwd", "/etc/", "/etc"}) {
    const auto model = Load(path);
    EXPECT_EQ(ReasonOf(model.status()), Reason::kAddressRefused) << path << model.status();
  }
}

TEST_F(LoadFromDiskTest, AFolderWithoutWeightsIsNotFound) {
  EXPECT_EQ(ReasonOf(Load(folder_.string()).status()), Reason::kModelNotFound);
}

}  // namespace
}  // namespace weightd::pipeline
