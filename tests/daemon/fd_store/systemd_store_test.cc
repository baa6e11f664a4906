#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "daemon/fd_store/open.h"
#include "tests/daemon/fd_store/watcher.h"
#include "tests/fakes/fake_service_manager.h"
#include "tests/servers/keeper_process.h"

namespace weightd::fd_store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kProgram[] = "tests/daemon/fd_store/store_user";
// How that ends with nowhere to store.
constexpr int kNowhere = 3;

class SystemdStoreTest : public ::testing::Test {
 protected:
  explicit SystemdStoreTest(size_t room = 100) : systemd_(room) {}
  ~SystemdStoreTest() override { unlink(output_.c_str()); }

  // What a process of the service takes back, before it does that and ends.
  std::string Serve(std::vector<std::string> todo, int end = 0, bool before_254 = false) {
    todo.insert(todo.begin(), {kProgram, output_, keeper_dir_});
    EXPECT_EQ(systemd_.Run(todo, before_254), end);
    std::ifstream output(output_);
    return {std::istreambuf_iterator<char>(output), {}};
  }

  std::unique_ptr<FdStore> OpenStore() {
    Options options;
    options.inherited.limit = 2;
    options.notify_socket = systemd_.address();
    options.observer = watcher_.observer();
    return std::move(Open(std::move(options))).value();
  }

  const std::string output_ = absl::StrCat(::testing::TempDir(), "/store_user-", getpid());
  std::string keeper_dir_;
  Watcher watcher_;
  FakeServiceManager systemd_;
};

TEST_F(SystemdStoreTest, GivesTheNextProcessWhatOneStored) {
  EXPECT_EQ(Serve({"store", "m", "1", "store", "m", "2", "store", "n", "3", "remove", "n"}), "");
  EXPECT_THAT(systemd_.names(), ElementsAre("m", "m"));
  // One that is killed at once, and removes nothing.
  EXPECT_EQ(Serve({"die"}, -SIGKILL), "m=1\nm=2\n");
  EXPECT_EQ(Serve({"store", "o", "4"}), "m=1\nm=2\n");
  EXPECT_EQ(Serve({"remove", "m"}), "m=1\nm=2\no=4\n");
  EXPECT_EQ(Serve({}), "o=4\n");
}

TEST_F(SystemdStoreTest, BeforeVersion254ItIsKnownByWhatItGives) {
  EXPECT_EQ(Serve({"store", "m", "1"}, kNowhere, true), "");
  EXPECT_THAT(systemd_.names(), IsEmpty());
  EXPECT_EQ(Serve({"store", "m", "1"}), "");
  EXPECT_EQ(Serve({"store", "n", "2"}, 0, true), "m=1\n");
  EXPECT_THAT(systemd_.names(), ElementsAre("m", "n"));
}

TEST_F(SystemdStoreTest, ComesBeforeAKeeper) {
  const KeeperProcess keeper;
  keeper_dir_ = keeper.folder();
  Serve({"store", "m", "1"});
  EXPECT_THAT(systemd_.names(), ElementsAre("m"));
  const RawPeer peer(keeper.socket());
  (void)peer.Hear();
  EXPECT_EQ(peer.Ask("FDLIST=1"), "END=1\nFDS=0");
}

TEST_F(SystemdStoreTest, IsNotAskedForMoreThanItStores) {
  const auto store = OpenStore();
  for (const char* name : {"a", "b", "c"}) {
    store->Store(name, FileWith(name));
  }
  EXPECT_TRUE(watcher_.Heard("refused: c: the store holds 2 descriptors"));
  store->Remove("a");
  store->Store("c", FileWith("c"));
  EXPECT_TRUE(store->Flush(absl::Now() + absl::Seconds(20)));
  EXPECT_THAT(systemd_.names(), ElementsAre("b", "c"));
}

TEST_F(SystemdStoreTest, NobodyWaitsForAManagerThatIsBusy) {
  auto store = OpenStore();
  (void)store->TakeBack();
  systemd_.Listen(false);
  store->Store("m", FileWith("1"));
  EXPECT_FALSE(store->Flush(absl::Now() + absl::Milliseconds(10)));
  systemd_.Listen(true);
  EXPECT_TRUE(store->Flush(absl::Now() + absl::Seconds(20)));
  EXPECT_THAT(systemd_.names(), ElementsAre("m"));
  systemd_.Listen(false);
  store->Store("n", FileWith("2"));
  const absl::Time began = absl::Now();
  store.reset();
  EXPECT_LT(absl::Now() - began, absl::Seconds(2));
}

TEST_F(SystemdStoreTest, IsToldAgainWhatItCouldNotBeTold) {
  Options options;
  options.inherited.limit = 10;
  options.notify_socket = absl::StrCat("@weightd-nobody-", getpid());
  options.observer = watcher_.observer();
  const auto store = std::move(Open(std::move(options))).value();
  store->Store("m", FileWith("1"));
  EXPECT_TRUE(watcher_.Heard("away: tell systemd: Connection refused"));
  EXPECT_FALSE(store->Flush(absl::Now()));
}

}  // namespace
}  // namespace weightd::fd_store
