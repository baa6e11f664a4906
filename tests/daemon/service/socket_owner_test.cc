#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/service/owner.h"
#include "daemon/service/socket_folder.h"

namespace weightd::service {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kAlice = 61234;
constexpr gid_t kTeam = 61235;

TEST(Owner, IsNamedInThreeWays) {
  const absl::StatusOr<Owner> root = ParseOwner("root");
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(root->user, uid_t{0});
  EXPECT_FALSE(root->group.has_value());
  EXPECT_EQ(root->foreign(), geteuid() != 0);
  const absl::StatusOr<Owner> both = ParseOwner("61234:root");
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->user, kAlice);
  EXPECT_EQ(both->group, gid_t{0});
  EXPECT_TRUE(both->foreign());
  const absl::StatusOr<Owner> group = ParseOwner(":61235");
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_FALSE(group->user.has_value());
  EXPECT_EQ(group->group, kTeam);
  EXPECT_FALSE(group->foreign());
}

TEST(Owner, RefusesOtherForms) {
  for (const char* text : {"", ":", "root:", "a:b:c", "4294967295", "99999999999"}) {
    EXPECT_EQ(ReasonOf(ParseOwner(text).status()), Reason::kInvalidArgument) << text;
  }
  const absl::Status unknown = ParseOwner("no-such-user").status();
  EXPECT_TRUE(absl::StrContains(unknown.message(), "knows no user \"no-such-user\"")) << unknown;
  EXPECT_TRUE(absl::StrContains(ParseOwner(":no-such").status().message(), "knows no group"));
}

class SocketOwnerTest : public testing::Test {
 protected:
  SocketOwnerTest() {
    std::string name = "/tmp/weightd-owner-XXXXXX";
    root_ = mkdtemp(name.data());
    path_ = absl::StrCat(root_, "/s");
  }
  ~SocketOwnerTest() override { fs::remove_all(root_); }
  void SetUp() override {
    // Not in a user namespace that lacks them, as a sandbox's.
    if (chown(root_.c_str(), kAlice, kTeam) != 0 || chown(root_.c_str(), geteuid(), 0) != 0) {
      GTEST_SKIP() << "only root gives folders away";
    }
  }

  absl::StatusOr<std::unique_ptr<SocketFolder>> Open(Owner owner = {.user = kAlice},
                                                     mode_t mode = 0700) {
    SocketFolderOptions options;
    options.path = path_;
    options.mode = mode;
    options.owner = owner;
    options.patience = absl::Milliseconds(100);
    return SocketFolder::Open(options, cancellation_);
  }
  // A daemon's whole life, up to where it serves.
  std::unique_ptr<SocketFolder> Serve(Fd& listening) {
    auto folder = Open();
    EXPECT_TRUE(folder.ok()) << folder.status();
    auto bound = (*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0600);
    EXPECT_TRUE(bound.ok()) << bound.status();
    EXPECT_TRUE((*folder)->GiveAway().ok());
    listening = *std::move(bound);
    return *std::move(folder);
  }
  std::string At(absl::string_view name) const { return absl::StrCat(path_, "/", name); }
  static struct stat StatOf(const std::string& path) {
    struct stat found{};
    EXPECT_EQ(lstat(path.c_str(), &found), 0) << path;
    return found;
  }

  std::string root_;
  std::string path_;
  Cancellation cancellation_;
};

TEST_F(SocketOwnerTest, IsNotMadeWhereOthersCouldPutAnotherInItsPlace) {
  const std::string home = absl::StrCat(root_, "/home");
  ASSERT_EQ(mkdir(home.c_str(), 0755), 0);
  path_ = absl::StrCat(home, "/s");
  EXPECT_TRUE(Open().ok());
  ASSERT_EQ(chmod(home.c_str(), 0777), 0);
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kNotAllowed);
  ASSERT_EQ(chmod(home.c_str(), 0755), 0);
  ASSERT_EQ(chown(home.c_str(), kAlice, 0), 0);
  const absl::Status hers = Open().status();
  EXPECT_TRUE(absl::StrContains(hers.message(), home)) << hers;
  // Nor behind a link of hers, whatever it leads to.
  const std::string link = absl::StrCat(home, "/link");
  const std::string target = absl::StrCat(root_, "/target");
  ASSERT_EQ(mkdir(target.c_str(), 0755), 0);
  ASSERT_EQ(symlink(target.c_str(), link.c_str()), 0);
  path_ = absl::StrCat(link, "/s");
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kNotAllowed);
  EXPECT_EQ(StatOf(target).st_uid, geteuid());
}

TEST_F(SocketOwnerTest, ALinkIsNotFollowed) {
  const std::string target = absl::StrCat(root_, "/target");
  ASSERT_EQ(mkdir(target.c_str(), 0755), 0);
  ASSERT_EQ(symlink(target.c_str(), path_.c_str()), 0);
  EXPECT_FALSE(Open().ok());
  EXPECT_EQ(StatOf(target).st_uid, geteuid());
}

TEST_F(SocketOwnerTest, FolderAndSocketsAreTheOwners) {
  Fd listening;
  const auto folder = Serve(listening);
  EXPECT_EQ(StatOf(path_).st_uid, kAlice);
  EXPECT_EQ(StatOf(path_).st_mode & 07777, 0700);
  EXPECT_EQ(StatOf(At("weightd.sock")).st_uid, kAlice);
  EXPECT_EQ(StatOf(At("weightd.sock")).st_mode & 07777, 0600);
  EXPECT_EQ(StatOf(At("weightd.lock")).st_uid, uid_t{0});
}

TEST_F(SocketOwnerTest, TheFolderIsOursUntilItsSocketsAreThere) {
  const auto folder = Open();
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto bound = (*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0600);
  ASSERT_TRUE(bound.ok()) << bound.status();
  EXPECT_EQ(StatOf(path_).st_uid, uid_t{0});
  ASSERT_TRUE((*folder)->GiveAway().ok());
  (*folder)->Unbind();
  EXPECT_EQ(StatOf(path_).st_uid, uid_t{0});
  EXPECT_FALSE(fs::exists(At("weightd.sock")));
}

TEST_F(SocketOwnerTest, SocketsHaveTheGroupThatTheFolderLetsIn) {
  auto folder = Open({.group = kTeam}, 0750);
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE((*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0660).ok());
  EXPECT_EQ(StatOf(path_).st_gid, kTeam);
  EXPECT_EQ(StatOf(At("weightd.sock")).st_gid, kTeam);
  EXPECT_EQ(StatOf(path_).st_uid, uid_t{0});
  // A folder that has its group already.
  folder->reset();
  folder = Open({}, 0750);
  ASSERT_TRUE(folder.ok()) << folder.status();
  ASSERT_TRUE((*folder)->Bind(kWeightsSocket, SOCK_STREAM, 0660).ok());
  EXPECT_EQ(StatOf(At("weightd.sock")).st_gid, kTeam);
}

TEST_F(SocketOwnerTest, WhatTheOwnerPutInTheWayHurtsNobody) {
  {
    Fd listening;
    Serve(listening);
  }
  // What they could do while the folder was theirs: a lock that they hold, links, folders.
  fs::remove(At("weightd.lock"));
  std::ofstream(At("weightd.lock")) << "";
  ASSERT_EQ(chown(At("weightd.lock").c_str(), kAlice, kTeam), 0);
  const Fd held(open(At("weightd.lock").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(flock(held.get(), LOCK_EX), 0);
  const std::string victim = absl::StrCat(root_, "/victim");
  std::ofstream(victim) << "secret";
  ASSERT_EQ(chmod(victim.c_str(), 0600), 0);
  fs::create_symlink(victim, At(".sock.new"));
  fs::create_directories(At("weightd.sock/full"));
  ASSERT_EQ(chmod(path_.c_str(), 0), 0);
  ASSERT_EQ(chown(path_.c_str(), kAlice, kTeam), 0);

  Fd listening;
  const auto folder = Serve(listening);
  EXPECT_EQ(StatOf(At("weightd.lock")).st_uid, uid_t{0});
  EXPECT_TRUE(S_ISSOCK(StatOf(At("weightd.sock")).st_mode));
  EXPECT_EQ(StatOf(path_).st_mode & 07777, 0700);
  EXPECT_EQ(StatOf(victim).st_mode & 07777, 0600);
  EXPECT_EQ(StatOf(victim).st_uid, uid_t{0});
}

TEST_F(SocketOwnerTest, AnotherDaemonsFolderIsLeftAsItWas) {
  Fd listening;
  const auto first = Serve(listening);
  cancellation_.Cancel(Error(Reason::kShuttingDown, "enough"));
  EXPECT_FALSE(Open().ok());
  EXPECT_EQ(StatOf(path_).st_uid, kAlice);
  EXPECT_EQ(StatOf(path_).st_mode & 07777, 0700);
}

TEST_F(SocketOwnerTest, AFolderInUseForOtherThingsKeepsItsOwner) {
  fs::create_directory(path_);
  std::ofstream(At("somebody's")) << "";
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kNotAllowed);
  EXPECT_EQ(ReasonOf(Open({.group = kTeam}).status()), Reason::kNotAllowed);
  EXPECT_EQ(StatOf(path_).st_uid, uid_t{0});
  EXPECT_NE(StatOf(path_).st_gid, kTeam);
}

TEST_F(SocketOwnerTest, SaysThatItLacksTheRight) {
  const pid_t child = fork();
  if (child == 0) {
    const bool other = chown(root_.c_str(), kAlice + 1, kTeam) == 0 && setgid(kTeam) == 0 &&
                       setuid(kAlice + 1) == 0;
    const auto folder = Open();
    if (!other || !folder.ok()) {
      _exit(1);
    }
    const absl::Status status = (*folder)->GiveAway();
    _exit(absl::StrContains(status.message(), "CAP_CHOWN") ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace weightd::service
