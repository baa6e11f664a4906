#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/status.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/fd_store/keeper_protocol.h"
#include "daemon/fd_store/open.h"
#include "daemon/host/holders.h"
#include "tests/daemon/fd_store/keeper_store_fixture.h"

namespace weightd::fd_store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

TEST_F(KeeperStoreTest, GivesTheNextDaemonWhatOneStored) {
  {
    const auto store = OpenStore();
    EXPECT_THAT(TakeBack(*store), IsEmpty());
    store->Store("m", FileWith("1"));
    store->Store("m", FileWith("2"));
    store->Store("n", FileWith("3"));
    store->Store("o", FileWith("4"));
    store->Remove("n");
    store->Remove("unknown");
    EXPECT_TRUE(Flush(*store));
  }
  const auto store = OpenStore();
  EXPECT_THAT(TakeBack(*store), ElementsAre(Pair("m", "1"), Pair("m", "2"), Pair("o", "4")));
  EXPECT_THAT(TakeBack(*store), IsEmpty());
  EXPECT_THAT(watcher_.lines(), IsEmpty());
}

TEST_F(KeeperStoreTest, TellsWhatTheKeeperHasConfirmed) {
  {
    const auto store = OpenStore();
    store->Store("m", FileWith("1"));
    EXPECT_TRUE(Flush(*store));
  }
  const auto store = OpenStore();
  EXPECT_THAT(TakeBack(*store), SizeIs(1));
  store->Store("n", FileWith("2"));
  store->Store("o", FileWith("3"));
  store->Remove("o");
  EXPECT_TRUE(Flush(*store));
  EXPECT_EQ(store->Confirmed(), (StoredNames{"m", "n"}));
  keeper_.Kill();
  EXPECT_TRUE(watcher_.Heard("away: "));
  EXPECT_EQ(store->Confirmed(), StoredNames{});
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 2"));
  EXPECT_EQ(store->Confirmed(), (StoredNames{"m", "n"}));
}

TEST_F(KeeperStoreTest, WhatIsTakenBackStaysUntilItIsRemoved) {
  {
    const auto store = OpenStore();
    store->Store("m", FileWith("1"));
    store->Store("n", FileWith("2"));
    EXPECT_TRUE(Flush(*store));
  }
  {
    const auto store = OpenStore();
    for (const StoredFd& stored : store->TakeBack()) {
      store->Store(stored.name, stored.fd);
    }
    store->Remove("n");
    EXPECT_TRUE(Flush(*store));
  }
  EXPECT_THAT(Held(), ElementsAre(Pair("m", "1")));
}

TEST_F(KeeperStoreTest, StoresAllAgainWhenTheKeeperWasKilled) {
  {
    const auto first = OpenStore();
    first->Store("old", FileWith("1"));
    EXPECT_TRUE(Flush(*first));
  }
  const auto store = OpenStore();
  (void)store->TakeBack();
  store->Store("m", FileWith("2"));
  store->Store("away0", FileWith("3"));
  EXPECT_TRUE(Flush(*store));
  for (int times = 1; times <= 10; ++times) {
    keeper_.Kill();
    EXPECT_TRUE(watcher_.Heard("away: ", times));
    store->Store(absl::StrCat("away", times), FileWith("3"));
    store->Remove(absl::StrCat("away", times - 1));
    keeper_.Start();
    EXPECT_TRUE(watcher_.Heard("back: 3", times));
    EXPECT_THAT(Held(), UnorderedElementsAre(Pair("m", "2"), Pair("old", "1"),
                                             Pair(absl::StrCat("away", times), "3")));
  }
  EXPECT_THAT(watcher_.lines(), SizeIs(20));
}

TEST_F(KeeperStoreTest, NeedsNoMoreDescriptorsAfterManyKills) {
  const auto store = OpenStore();
  (void)store->TakeBack();
  for (int i = 0; i < 20; ++i) {
    store->Store(absl::StrCat("m", i), FileWith("1"));
  }
  EXPECT_TRUE(Flush(*store));
  const size_t before = OpenDescriptors();
  for (int times = 1; times <= 10; ++times) {
    keeper_.Kill();
    keeper_.Start();
    EXPECT_TRUE(watcher_.Heard("back: 20", times));
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(KeeperStoreTest, NobodyWaitsForAKeeperThatHangs) {
  const auto store = OpenStore();
  (void)store->TakeBack();
  keeper_.Freeze();
  const absl::Time began = absl::Now();
  for (int i = 0; i < 100; ++i) {
    store->Store(absl::StrCat("m", i), FileWith("1"));
  }
  store->Remove("m1");
  EXPECT_FALSE(store->Flush(absl::Now() + absl::Milliseconds(10)));
  EXPECT_LT(absl::Now() - began, absl::Seconds(2));
  keeper_.Thaw();
  EXPECT_TRUE(Flush(*store));
  EXPECT_THAT(Held(), SizeIs(99));
}

TEST_F(KeeperStoreTest, EndsSoonWhileTheKeeperHangs) {
  auto store = OpenStore();
  (void)store->TakeBack();
  keeper_.Freeze();
  store->Store("m", FileWith("1"));
  const absl::Time began = absl::Now();
  store.reset();
  EXPECT_LT(absl::Now() - began, absl::Seconds(2));
  keeper_.Thaw();
}

TEST_F(KeeperStoreTest, AStartWithoutTheKeeperGoesOnAtOnce) {
  keeper_.Kill();
  const absl::Time began = absl::Now();
  const auto store = OpenStore();
  EXPECT_THAT(TakeBack(*store), IsEmpty());
  EXPECT_LT(absl::Now() - began, absl::Seconds(1));
  EXPECT_TRUE(watcher_.Heard("away: "));
  store->Store("m", FileWith("1"));
  EXPECT_FALSE(store->Flush(absl::Now() + absl::Milliseconds(10)));
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 1"));
  EXPECT_THAT(Held(), ElementsAre(Pair("m", "1")));
}

TEST_F(KeeperStoreTest, TwoDaemonsLeaveEachOthersAlone) {
  {
    const auto a = OpenStore("a.");
    a->Store("a.1", FileWith("1"));
    EXPECT_TRUE(Flush(*a));
  }
  const auto b = OpenStore("b.");
  EXPECT_THAT(TakeBack(*b), IsEmpty());
  EXPECT_TRUE(watcher_.Heard("others: 1"));
  EXPECT_EQ(b->status().others, 1);
  b->Store("b.1", FileWith("2"));
  EXPECT_TRUE(Flush(*b));
  auto a = OpenStore("a.");
  EXPECT_THAT(TakeBack(*a), ElementsAre(Pair("a.1", "1")));
  // Each stores its own again, and nothing that it has seen of the other.
  keeper_.Kill();
  EXPECT_TRUE(watcher_.Heard("away: ", 2));
  a.reset();
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 1"));
  EXPECT_THAT(Held(), ElementsAre(Pair("b.1", "2")));
}

TEST_F(KeeperStoreTest, TellsHowItIs) {
  const auto store = OpenStore();
  (void)store->TakeBack();
  store->Store("m", FileWith("1"));
  store->Store("n", FileWith("2"));
  EXPECT_TRUE(Flush(*store));
  const StoreStatus well = store->status();
  EXPECT_EQ(well.place, keeper_.folder());
  EXPECT_TRUE(well.reachable);
  EXPECT_EQ(well.stored, 2);
  EXPECT_EQ(well.pending, 0);
  keeper_.Kill();
  EXPECT_TRUE(watcher_.Heard("away: "));
  store->Store("o", FileWith("3"));
  const StoreStatus away = store->status();
  EXPECT_FALSE(away.reachable);
  EXPECT_EQ(away.stored, 0);
  EXPECT_EQ(away.pending, 3);
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 3"));
  EXPECT_TRUE(Flush(*store));
  EXPECT_TRUE(store->status().reachable);
  EXPECT_EQ(store->status().stored, 3);
}

TEST_F(KeeperStoreTest, TwoDaemonsShareItDuringAHandOver) {
  const auto first = OpenStore();
  (void)first->TakeBack();
  first->Store("m", FileWith("1"));
  EXPECT_TRUE(Flush(*first));
  const auto second = OpenStore();
  EXPECT_THAT(TakeBack(*second), ElementsAre(Pair("m", "1")));
  first->Store("n", FileWith("2"));
  second->Store("o", FileWith("3"));
  EXPECT_TRUE(Flush(*first) && Flush(*second));
  keeper_.Kill();
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 2", 2));
  // "m" is of both, and there once.
  EXPECT_THAT(Held(), UnorderedElementsAre(Pair("m", "1"), Pair("n", "2"), Pair("o", "3")));
}

// A successor waits for the end of the daemon before it, which may store until then.
TEST_F(KeeperStoreTest, WhatIsTakenBackIsWhatIsThereWhenThatIsAskedFor) {
  const auto first = OpenStore();
  (void)first->TakeBack();
  first->Store("m", FileWith("1"));
  EXPECT_TRUE(Flush(*first));
  const auto second = OpenStore();
  second->Remove("unknown");
  EXPECT_TRUE(Flush(*second));
  first->Store("n", FileWith("2"));
  EXPECT_TRUE(Flush(*first));
  EXPECT_THAT(TakeBack(*second), ElementsAre(Pair("m", "1"), Pair("n", "2")));
}

TEST_F(KeeperStoreTest, NamesThatAreNoneAreRefused) {
  const auto store = OpenStore();
  const std::string names[] = {"", "a b", "a:b", "a\nFDNAME=b", "ä", std::string(256, 'a')};
  for (const std::string& name : names) {
    store->Store(name, FileWith("1"));
    store->Remove(name);
  }
  store->Store("m", Fd());
  EXPECT_TRUE(watcher_.Heard("refused: ", 7));
  EXPECT_TRUE(Flush(*store));
  EXPECT_THAT(Held(), IsEmpty());
}

TEST_F(KeeperStoreTest, WhatTheDaemonHasNoDescriptorForIsRefused) {
  absl::Status why;
  Options options;
  options.keeper_dir = keeper_.folder();
  options.observer.on_refused = [&why](absl::string_view, absl::string_view,
                                       const absl::Status& refused) { why = refused; };
  const auto store = std::move(Open(std::move(options))).value();
  EXPECT_TRUE(Flush(*store));
  const Fd file = FileWith("1");
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int lowest = file.Duplicate().value().get();
  const rlimit tight = {static_cast<rlim_t>(lowest), limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  store->Store("m", file, "file:///m");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(absl::StrContains(why.message(), "can't be duplicated")) << why;
  EXPECT_TRUE(absl::StrContains(HintOf(why), "LimitNOFILE=")) << HintOf(why);
  EXPECT_EQ(store->status().refused, 1);
  EXPECT_EQ(store->Confirmed(), StoredNames{});
  store->Store("m", file, "file:///m");
  EXPECT_TRUE(Flush(*store));
  EXPECT_EQ(store->status().refused, 0);
  EXPECT_EQ(store->Confirmed(), StoredNames{"m"});
}

// More than this process can have at once.
// The keeper's descriptor is the daemon's own open file, so it is no holder.
TEST_F(KeeperStoreTest, AProbeThatIsKeptHoldsNothing) {
  const pid_t daemon = fork();
  if (daemon == 0) {
    const Fd probe = FileWith("weights").ReopenReadOnly().value();
    const RawPeer peer(keeper_.socket());
    (void)peer.Hear();
    const bool free_before = !host::HeldByOthers(probe);
    const bool stored = peer.Ask(StoreRequest("probe"), {probe.get()}) == "OK=1";
    _exit(free_before && stored && !host::HeldByOthers(probe) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(daemon, &status, 0), daemon);
  ASSERT_EQ(status, 0);

  const auto store = OpenStore();
  const std::vector<StoredFd> taken = store->TakeBack();
  ASSERT_THAT(taken, SizeIs(1));
  const Fd& probe = taken[0].fd;
  EXPECT_EQ(TextOf(probe), "weights");
  EXPECT_FALSE(host::HeldByOthers(probe));
  store->Store("probe", probe);
  EXPECT_TRUE(Flush(*store));
  EXPECT_FALSE(host::HeldByOthers(probe));

  // A client has one of its own, then only a mapping.
  Fd own = probe.ReopenReadOnly().value();
  EXPECT_TRUE(host::HeldByOthers(probe));
  void* const mapped = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, own.get(), 0);
  own.Reset();
  EXPECT_TRUE(host::HeldByOthers(probe));
  ASSERT_EQ(munmap(mapped, 4096), 0);
  EXPECT_FALSE(host::HeldByOthers(probe));
  keeper_.Kill();
  keeper_.Start();
  EXPECT_TRUE(watcher_.Heard("back: 1"));
  EXPECT_FALSE(host::HeldByOthers(probe));
}

class SmallKeeperTest : public ::testing::Test {
 protected:
  Watcher watcher_;
  // Room for two.
  KeeperProcess keeper_{48 + 2};
};

TEST_F(SmallKeeperTest, WhatHasNoRoomIsStoredOnceThereIsSome) {
  Options options;
  options.keeper_dir = keeper_.folder();
  options.observer = watcher_.observer();
  const auto store = std::move(Open(std::move(options))).value();
  for (const char* name : {"a", "b", "c"}) {
    store->Store(name, FileWith(name), "file:///m");
  }
  EXPECT_TRUE(watcher_.Heard("refused: c of file:///m: the keeper says FULL: no room"));
  EXPECT_TRUE(store->Flush(absl::Now() + kPatience));
  EXPECT_EQ(store->status().stored, 2);
  EXPECT_EQ(store->status().refused, 1);
  store->Remove("a");
  EXPECT_TRUE(store->Flush(absl::Now() + kPatience));
  EXPECT_EQ(store->status().refused, 0);
  const RawPeer peer(keeper_.socket());
  (void)peer.Hear();
  EXPECT_TRUE(peer.Say("FDLIST=1"));
  EXPECT_EQ(peer.Hear().bytes, "FD=1\nFDNAME=b");
  EXPECT_EQ(peer.Hear().bytes, "FD=1\nFDNAME=c");
  EXPECT_EQ(peer.Hear().bytes, "END=1\nFDS=2");
}

TEST(OpenTest, IsNullWithoutAnywhereToStore) {
  const auto store = Open({});
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(*store, nullptr);
}

TEST(OpenTest, AFolderThatIsTooLongIsAMistake) {
  Options options;
  options.keeper_dir = "/" + std::string(100, 'x');
  const absl::Status status = Open(std::move(options)).status();
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), StartsWith("the keeper's folder /x"));
}

}  // namespace
}  // namespace weightd::fd_store
