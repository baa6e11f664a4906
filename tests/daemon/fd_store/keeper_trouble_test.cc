// Keepers that are late, can't be found any more, or are not to be trusted.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/fd_store/open.h"
#include "tests/daemon/fd_store/keeper_store_fixture.h"

namespace weightd::fd_store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

TEST_F(KeeperStoreTest, OthersAreNotGivenLateEither) {
  {
    const auto a = OpenStore("a.");
    a->Store("a.1", FileWith("1"));
    EXPECT_TRUE(Flush(*a));
    const auto b = OpenStore("b.");
    (void)b->TakeBack();
    b->Store("b.1", FileWith("old"));
    EXPECT_TRUE(Flush(*b));
  }
  keeper_.Freeze();
  const auto b = OpenStore("b.");
  EXPECT_THAT(TakeBack(*b), IsEmpty());
  Late late(*b);
  keeper_.Thaw();
  EXPECT_THAT(late.Await(), ElementsAre(Pair("b.1", "old")));
  EXPECT_TRUE(watcher_.Heard("others: 1", 2));
  EXPECT_THAT(Held(), UnorderedElementsAre(Pair("a.1", "1"), Pair("b.1", "old")));
}

TEST_F(KeeperStoreTest, AKeeperThatWasAwayAMomentAgoIsAskedAgain) {
  {
    const auto first = OpenStore();
    first->Store("m", FileWith("1"));
    EXPECT_TRUE(Flush(*first));
  }
  for (int times = 1; times <= 10; ++times) {
    // Not to be trusted, and then it is.
    ASSERT_EQ(chmod(keeper_.folder().c_str(), 0777), 0);
    const auto second = OpenStore();
    EXPECT_TRUE(watcher_.Heard("away: ", times));
    ASSERT_EQ(chmod(keeper_.folder().c_str(), 0700), 0);
    EXPECT_THAT(TakeBack(*second), ElementsAre(Pair("m", "1")));
  }
}

TEST_F(KeeperStoreTest, WhatComesTooLateToBeTakenBackIsGivenLater) {
  {
    const auto first = OpenStore();
    first->Store("m", FileWith("old"));
    first->Store("n", FileWith("old"));
    EXPECT_TRUE(Flush(*first));
  }
  keeper_.Freeze();
  const auto store = OpenStore();
  EXPECT_THAT(TakeBack(*store), IsEmpty());
  store->Store("m", FileWith("new"));
  Late late(*store);
  keeper_.Thaw();
  EXPECT_THAT(late.Await(), ElementsAre(Pair("m", "old"), Pair("n", "old")));
  EXPECT_TRUE(watcher_.Heard("late: 2"));
  store->Remove("n");
  EXPECT_TRUE(Flush(*store));
  EXPECT_THAT(Held(), ElementsAre(Pair("m", "old"), Pair("m", "new")));
  // It is this daemon's now, as if it had been in time.
  keeper_.Kill();
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 2"));
  EXPECT_THAT(Held(), UnorderedElementsAre(Pair("m", "old"), Pair("m", "new")));
}

TEST_F(KeeperStoreTest, WhatNobodyTakesLateStaysForTheNextDaemon) {
  {
    const auto first = OpenStore();
    first->Store("m", FileWith("1"));
    EXPECT_TRUE(Flush(*first));
  }
  keeper_.Freeze();
  {
    const auto store = OpenStore();
    EXPECT_THAT(TakeBack(*store), IsEmpty());
    Late late(*store);
    late.Stop();
    keeper_.Thaw();
    EXPECT_TRUE(Flush(*store));
    store->Store("n", FileWith("2"));
    EXPECT_TRUE(Flush(*store));
  }
  EXPECT_THAT(Held(), ElementsAre(Pair("m", "1"), Pair("n", "2")));
}

TEST_F(KeeperStoreTest, ASocketThatWasRemovedIsToldAndComesBack) {
  const auto store = OpenStore();
  (void)store->TakeBack();
  store->Store("m", FileWith("1"));
  EXPECT_TRUE(Flush(*store));
  ASSERT_EQ(unlink(keeper_.socket().c_str()), 0);
  // Or that another one lies there, if the keeper was faster.
  EXPECT_TRUE(watcher_.Heard("away: "));
  EXPECT_TRUE(watcher_.Heard("back: 1"));
  EXPECT_THAT(Held(), ElementsAre(Pair("m", "1")));
}

TEST_F(KeeperStoreTest, AllIsStoredInAKeeperThatTookTheFoldersPlace) {
  const auto store = OpenStore();
  (void)store->TakeBack();
  store->Store("m", FileWith("1"));
  EXPECT_TRUE(Flush(*store));
  const pid_t first = keeper_.Abandon();
  ASSERT_EQ(rename(keeper_.folder().c_str(), (keeper_.folder() + ".gone").c_str()), 0);
  EXPECT_TRUE(watcher_.Heard("away: its socket was removed"));
  EXPECT_FALSE(store->status().reachable);
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 1"));
  EXPECT_TRUE(store->status().reachable);
  EXPECT_THAT(Held(), ElementsAre(Pair("m", "1")));
  int status = 0;
  EXPECT_EQ(waitpid(first, &status, 0), first);
  EXPECT_EQ(WEXITSTATUS(status), 69) << "nobody finds it any more";
}

TEST_F(KeeperStoreTest, AReasonThatAnOperatorHasToEndIsToldAgain) {
  keeper_.Kill();
  const auto store = OpenStore();
  store->Store("m", FileWith("1"), "file:///m");
  EXPECT_TRUE(watcher_.Heard("away: connect to "));
  ASSERT_EQ(chmod(keeper_.folder().c_str(), 0777), 0);
  EXPECT_TRUE(watcher_.Heard("away: " + keeper_.folder()));
  EXPECT_TRUE(absl::EndsWith(watcher_.lines().back(), "; 1 models")) << watcher_.lines().back();
  EXPECT_THAT(watcher_.lines(), SizeIs(2));
  ASSERT_EQ(chmod(keeper_.folder().c_str(), 0700), 0);
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 1"));
}

TEST_F(KeeperStoreTest, AFolderThatOthersMayChangeIsNotTrusted) {
  ASSERT_EQ(chmod(keeper_.folder().c_str(), 0777), 0);
  const auto store = OpenStore();
  EXPECT_THAT(TakeBack(*store), IsEmpty());
  EXPECT_TRUE(watcher_.Heard("away: " + keeper_.folder()));
  ASSERT_EQ(chmod(keeper_.folder().c_str(), 0700), 0);
  EXPECT_TRUE(watcher_.Heard("back: 0"));
}

TEST_F(KeeperStoreTest, AFolderThatIsNoLongerTrustedIsNoticed) {
  const auto store = OpenStore();
  (void)store->TakeBack();
  store->Store("m", FileWith("1"));
  EXPECT_TRUE(Flush(*store));
  ASSERT_EQ(chmod(keeper_.folder().c_str(), 0777), 0);
  EXPECT_TRUE(watcher_.Heard("away: " + keeper_.folder()));
  EXPECT_FALSE(store->status().reachable);
  ASSERT_EQ(chmod(keeper_.folder().c_str(), 0700), 0);
  EXPECT_TRUE(watcher_.Heard("back: 1"));
}

TEST_F(KeeperStoreTest, WhatIsTooMuchToBeTakenBackStaysAndTheRestIsStored) {
  constexpr int kMany = 200;
  {
    const auto first = OpenStore();
    for (int i = 0; i < kMany; ++i) {
      first->Store(absl::StrCat("old", i), FileWith("1"));
    }
    EXPECT_TRUE(Flush(*first));
  }
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low = {OpenDescriptors() + kMany / 2, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  {
    const auto store = OpenStore();
    EXPECT_THAT(TakeBack(*store), IsEmpty());
    EXPECT_TRUE(watcher_.Heard("away: the daemon's limit of open files is too low"));
    store->Store("new", FileWith("2"));
    EXPECT_TRUE(Flush(*store));
    EXPECT_TRUE(watcher_.Heard("back: "));
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(Held(), SizeIs(kMany + 1));
  EXPECT_THAT(watcher_.lines(), SizeIs(2));
}

TEST_F(KeeperStoreTest, AKeeperThatLetsUsNotInIsToldWithWhatToDo) {
  keeper_.Kill();
  const FakeKeeper keeper(keeper_.socket(), {"ERROR=NOT_ALLOWED\nMESSAGE=only root"}, geteuid());
  const absl::Status why = WhyAway();
  EXPECT_EQ(ReasonOf(why), Reason::kNotAllowed);
  EXPECT_EQ(why.message(), "the keeper says NOT_ALLOWED: only root");
  EXPECT_EQ(HintOf(why), "run weightd-keeper as the daemon's user");
}

TEST_F(KeeperStoreTest, AKeeperThatSpeaksNonsenseIsNotBelieved) {
  keeper_.Kill();
  const std::string hello = "KEEPER=1\nFDSTORE=10";
  const std::vector<std::string> scripts[] = {
      {""},
      {"garbage"},
      {std::string(60000, 'x')},
      {"KEEPER=2\nFDSTORE=10"},
      {"KEEPER=99999999999999999999"},
      {"ERROR=NOT_ALLOWED\nMESSAGE=go away"},
      {hello, "garbage"},
      {hello, "FD=1\nFDNAME=m"},
      {hello, "+1 FD=1\nFDNAME=a/b"},
      {hello, "+2 FD=1\nFDNAME=m"},
      {hello, "+200 FD=1\nFDNAME=m"},
      {hello, "+1 FD=1\nFDNAME=m", "END=1\nFDS=2"},
      {hello, "+1 FD=1\nFDNAME=m", "END=1"},
      {hello, "+1 FD=1\nFDNAME=m", "ERROR=BROKEN\nMESSAGE=disk on fire"},
      {hello, "+1 FD=1\nFDNAME=m", ""},
  };
  const size_t before = OpenDescriptors();
  int away = 0;
  for (const std::vector<std::string>& script : scripts) {
    const FakeKeeper liar(keeper_.socket(), script, geteuid());
    const auto store = OpenStore();
    EXPECT_THAT(TakeBack(*store), IsEmpty()) << script.back();
    EXPECT_TRUE(watcher_.Heard("away: ", ++away)) << script.back();
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

}  // namespace
}  // namespace weightd::fd_store
