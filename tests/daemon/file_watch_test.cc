#include "daemon/file_watch.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace weightd {
namespace {

namespace fs = std::filesystem;

class FileWatchTest : public ::testing::Test {
 protected:
  FileWatchTest() : folder_(fs::path(::testing::TempDir()) / "file_watch") {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~FileWatchTest() override { fs::remove_all(folder_); }

  void Write(const fs::path& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }
  FileWatch Watch(const fs::path& name) {
    auto watch = FileWatch::Of(folder_ / name);
    EXPECT_TRUE(watch.ok()) << watch.status();
    return *std::move(watch);
  }
  // Whether something was noticed, and the file then is another one.
  static bool Noticed(FileWatch& watch) {
    pollfd wait{watch.descriptor(), POLLIN, 0};
    return poll(&wait, 1, 0) == 1 && watch.Changed();
  }

  const fs::path folder_;
};

TEST_F(FileWatchTest, SeesWritesAndRenames) {
  Write("config", "a");
  FileWatch watch = Watch("config");
  EXPECT_FALSE(Noticed(watch));
  Write("config", "bb");
  EXPECT_TRUE(Noticed(watch));
  EXPECT_FALSE(Noticed(watch));
  Write("config.new", "bb");
  EXPECT_FALSE(Noticed(watch));
  fs::rename(folder_ / "config.new", folder_ / "config");
  EXPECT_TRUE(Noticed(watch));
}

TEST_F(FileWatchTest, AFileThatIsGoneHasNotChanged) {
  Write("config", "a");
  FileWatch watch = Watch("config");
  fs::rename(folder_ / "config", folder_ / "backup");
  EXPECT_FALSE(Noticed(watch));
  Write("config", "b");
  EXPECT_TRUE(Noticed(watch));
}

// As the kubelet updates a config map.
TEST_F(FileWatchTest, SeesALinkOnTheWayThatIsSwitched) {
  fs::create_directory(folder_ / "..1");
  fs::create_directory(folder_ / "..2");
  Write("..1/config", "a");
  Write("..2/config", "a");
  fs::create_directory_symlink("..1", folder_ / "..data");
  fs::create_symlink("..data/config", folder_ / "config");
  FileWatch watch = Watch("config");
  fs::create_directory_symlink("..2", folder_ / "..data_tmp");
  fs::rename(folder_ / "..data_tmp", folder_ / "..data");
  EXPECT_TRUE(Noticed(watch));
  fs::remove_all(folder_ / "..1");
  Write("..2/config", "b");
  EXPECT_TRUE(Noticed(watch));
}

TEST_F(FileWatchTest, SeesFoldersElsewhereThatLinksLeadTo) {
  fs::create_directories(folder_ / "elsewhere/v1");
  fs::create_directories(folder_ / "elsewhere/v2");
  Write("elsewhere/v1/config", "a");
  Write("elsewhere/v2/config", "a");
  fs::create_directory_symlink(folder_ / "elsewhere/v1", folder_ / "elsewhere/current");
  fs::create_directory(folder_ / "here");
  fs::create_symlink("../elsewhere/current/config", folder_ / "here/config");
  FileWatch watch = Watch("here/config");
  fs::create_directory_symlink(folder_ / "elsewhere/v2", folder_ / "elsewhere/next");
  fs::rename(folder_ / "elsewhere/next", folder_ / "elsewhere/current");
  EXPECT_TRUE(Noticed(watch));
}

}  // namespace
}  // namespace weightd
