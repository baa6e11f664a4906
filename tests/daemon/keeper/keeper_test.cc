#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/fd_passing.h"
#include "daemon/fd_store/keeper_protocol.h"
#include "tests/servers/keeper_process.h"

namespace weightd {
namespace {

using fd_store::RemoveRequest;
using fd_store::StoreRequest;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::StartsWith;

// Descriptors that a keeper needs for itself (daemon/keeper/server.h).
constexpr rlim_t kOwnFds = 48;

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kInstrumented = true;
#else
constexpr bool kInstrumented = false;
#endif
#endif

// Connected and greeted.
RawPeer Connect(const KeeperProcess& keeper) {
  RawPeer peer(keeper.socket());
  EXPECT_THAT(peer.Hear().bytes, StartsWith("KEEPER=1\nFDSTORE="));
  return peer;
}

// Names and the texts of the files.
std::vector<std::pair<std::string, std::string>> HearList(const RawPeer& peer) {
  std::vector<std::pair<std::string, std::string>> listed;
  while (true) {
    Packet packet = peer.Hear();
    if (packet.fds.size() != 1) {
      EXPECT_EQ(packet.bytes, absl::StrCat("END=1\nFDS=", listed.size()));
      return listed;
    }
    EXPECT_TRUE(absl::StartsWith(packet.bytes, "FD=1\nFDNAME="));
    listed.emplace_back(packet.bytes.substr(12), TextOf(packet.fds[0]));
  }
}

std::vector<std::pair<std::string, std::string>> List(const RawPeer& peer) {
  EXPECT_TRUE(peer.Say("FDLIST=1"));
  return HearList(peer);
}

std::vector<std::pair<std::string, std::string>> ListOf(const KeeperProcess& keeper) {
  return List(Connect(keeper));
}

void Empty(const std::string& folder) {
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    std::filesystem::remove(file.path());
  }
}

TEST(Keeper, HoldsDescriptorsByNameBeyondTheEndOfWhoStoredThem) {
  const KeeperProcess keeper;
  {
    const RawPeer peer = Connect(keeper);
    const Fd one = FileWith("one");
    const Fd two = FileWith("two");
    const Fd three = FileWith("three");
    EXPECT_EQ(peer.Ask(StoreRequest("m.index"), {one.get()}), "OK=1");
    EXPECT_EQ(peer.Ask(StoreRequest("m"), {two.get()}), "OK=1");
    EXPECT_EQ(peer.Ask(StoreRequest("m"), {three.get()}), "OK=1");
  }
  EXPECT_THAT(ListOf(keeper),
              ElementsAre(Pair("m.index", "one"), Pair("m", "two"), Pair("m", "three")));
  const RawPeer peer = Connect(keeper);
  EXPECT_EQ(peer.Ask(RemoveRequest("m")), "OK=1");
  EXPECT_EQ(peer.Ask(RemoveRequest("unknown")), "OK=1");
  EXPECT_THAT(List(peer), ElementsAre(Pair("m.index", "one")));
}

TEST(Keeper, ClosesWhatItForgets) {
  const KeeperProcess keeper;
  const RawPeer peer = Connect(keeper);
  Pipe pipe;
  EXPECT_EQ(peer.Ask(StoreRequest("pipe"), {pipe.write.get()}), "OK=1");
  EXPECT_EQ(peer.Ask(StoreRequest("pipe"), {pipe.write.get()}), "OK=1");
  EXPECT_EQ(peer.Ask(RemoveRequest("pipe")), "OK=1");
  EXPECT_TRUE(pipe.Abandoned());
}

TEST(Keeper, StoresAnOpenFileOnceUnderAName) {
  const KeeperProcess keeper;
  const RawPeer peer = Connect(keeper);
  const Fd file = FileWith("text");
  const Fd same = file.Duplicate().value();
  const Fd other = file.ReopenReadOnly().value();
  for (const Fd* fd : {&file, &same, &other}) {
    EXPECT_EQ(peer.Ask(StoreRequest("m"), {fd->get()}), "OK=1");
  }
  EXPECT_EQ(peer.Ask(StoreRequest("n"), {file.get()}), "OK=1");
  EXPECT_THAT(List(peer), ElementsAre(Pair("m", "text"), Pair("m", "text"), Pair("n", "text")));
}

TEST(Keeper, RefusesWhatIsNoRequestAndGoesOn) {
  const KeeperProcess keeper;
  const RawPeer peer = Connect(keeper);
  const Fd file = FileWith("text");
  const std::string long_name(256, 'a');
  const std::string huge(60000, 'x');
  struct Case {
    std::string text;
    std::vector<int> fds;
    std::string word;
  };
  const Case cases[] = {
      {"garbage", {}, "UNKNOWN"},
      {std::string("\0\0\xff\n=\n", 6), {}, "UNKNOWN"},
      {"FDSTORE=2\nFDNAME=m", {}, "UNKNOWN"},
      {"READY=1", {}, "UNKNOWN"},
      {"FDSTORE=1", {file.get()}, "MALFORMED"},
      {StoreRequest(""), {file.get()}, "MALFORMED"},
      {StoreRequest("a/b"), {file.get()}, "MALFORMED"},
      {StoreRequest("a:b"), {file.get()}, "MALFORMED"},
      {StoreRequest(long_name), {file.get()}, "MALFORMED"},
      {StoreRequest("m"), {}, "MALFORMED"},
      {StoreRequest("m"), {file.get(), file.get()}, "MALFORMED"},
      {StoreRequest("m"), std::vector<int>(200, file.get()), "MALFORMED"},
      {StoreRequest("m") + "\n" + huge, {file.get()}, "MALFORMED"},
      {RemoveRequest("m"), {file.get()}, "MALFORMED"},
      {"FDSTOREREMOVE=1", {}, "MALFORMED"},
      {"FDLIST=1", {file.get()}, "MALFORMED"},
      {"garbage", {file.get()}, "MALFORMED"},
  };
  for (const Case& bad : cases) {
    EXPECT_THAT(peer.Ask(bad.text, bad.fds),
                StartsWith(absl::StrCat("ERROR=", bad.word, "\nMESSAGE=")))
        << bad.text.substr(0, 80);
  }
  EXPECT_EQ(peer.Ask(StoreRequest(long_name.substr(1)), {file.get()}), "OK=1");
  EXPECT_THAT(List(peer), ElementsAre(Pair(long_name.substr(1), "text")));
}

TEST(Keeper, KeepsNoneOfTheDescriptorsThatItRefuses) {
  const KeeperProcess keeper;
  const RawPeer peer = Connect(keeper);
  Pipe pipe;
  const int end = pipe.write.get();
  for (size_t count : {1, 2, 4, 5, 100, 253}) {
    EXPECT_THAT(peer.Ask("FDLIST=1", std::vector<int>(count, end)), StartsWith("ERROR=MALFORMED"));
  }
  EXPECT_TRUE(pipe.Abandoned());
}

TEST(Keeper, ChangesNothingForARequestThatNeverCame) {
  const KeeperProcess keeper;
  const Fd file = FileWith("text");
  for (int i = 0; i < 100; ++i) {
    // The whole request counts, though nobody hears the answer.
    RawPeer(keeper.socket()).Say(StoreRequest(absl::StrCat("m", i)), {file.get()});
    RawPeer(keeper.socket()).Say("");
    RawPeer(keeper.socket()).Say("FDLIST=1");
  }
  std::vector<std::pair<std::string, std::string>> listed = ListOf(keeper);
  EXPECT_LE(listed.size(), 100);
  EXPECT_TRUE(std::all_of(listed.begin(), listed.end(),
                          [](const auto& each) { return each.second == "text"; }));
}

// Of two daemons, the next one asks as soon as the first is dead.
TEST(Keeper, ListsNothingBeforeItHasHeardWhoeverAskedBefore) {
  const KeeperProcess keeper;
  const RawPeer next = Connect(keeper);
  const Fd file = FileWith("text");
  {
    const RawPeer stores = Connect(keeper);
    const RawPeer removes = Connect(keeper);
    EXPECT_EQ(removes.Ask(StoreRequest("old"), {file.get()}), "OK=1");
    keeper.Freeze();
    EXPECT_TRUE(stores.Say(StoreRequest("new"), {file.get()}));
    EXPECT_TRUE(removes.Say(RemoveRequest("old")));
  }
  EXPECT_TRUE(next.Say("FDLIST=1"));
  keeper.Thaw();
  EXPECT_THAT(HearList(next), ElementsAre(Pair("new", "text")));
}

TEST(Keeper, SaysWhenThereIsNoRoom) {
  const KeeperProcess keeper(kOwnFds + 2);
  const RawPeer peer = Connect(keeper);
  const Fd files[] = {FileWith("0"), FileWith("1"), FileWith("2")};
  EXPECT_EQ(peer.Ask(StoreRequest("0"), {files[0].get()}), "OK=1");
  EXPECT_EQ(peer.Ask(StoreRequest("1"), {files[1].get()}), "OK=1");
  EXPECT_THAT(peer.Ask(StoreRequest("2"), {files[2].get()}),
              StartsWith("ERROR=FULL\nMESSAGE=no room"));
  EXPECT_EQ(peer.Ask(RemoveRequest("0")), "OK=1");
  // With as many connections as it has, none is lost for want of descriptors.
  std::deque<RawPeer> others;
  for (int i = 0; i < 31; ++i) {
    others.push_back(Connect(keeper));
  }
  EXPECT_EQ(peer.Ask(StoreRequest("2"), {files[2].get()}), "OK=1");
  for (const RawPeer& other : others) {
    EXPECT_THAT(List(other), ElementsAre(Pair("1", "1"), Pair("2", "2")));
  }
}

TEST(Keeper, IsNotHeldUpByThoseWhoSayNothing) {
  const KeeperProcess keeper;
  const RawPeer daemon = Connect(keeper);
  const Fd file = FileWith("text");
  EXPECT_EQ(daemon.Ask(StoreRequest("m"), {file.get()}), "OK=1");
  std::deque<RawPeer> silent;
  for (int i = 0; i < 200; ++i) {
    silent.push_back(Connect(keeper));
  }
  EXPECT_EQ(silent[0].Hear().bytes, "");  // made room
  EXPECT_THAT(List(daemon), ElementsAre(Pair("m", "text")));
  EXPECT_THAT(ListOf(keeper), ElementsAre(Pair("m", "text")));
}

TEST(Keeper, IsNotHeldUpByThoseWhoDoNotRead) {
  const KeeperProcess keeper;
  const RawPeer daemon = Connect(keeper);
  std::vector<Fd> files;
  for (int i = 0; i < 1000; ++i) {
    files.push_back(FileWith("text"));
    EXPECT_EQ(daemon.Ask(StoreRequest(absl::StrCat("m", i)), {files.back().get()}), "OK=1");
  }
  std::deque<RawPeer> deaf;
  for (int i = 0; i < 8; ++i) {
    deaf.push_back(Connect(keeper));
    for (int j = 0; j < 20; ++j) {
      EXPECT_TRUE(deaf.back().Say("FDLIST=1"));
    }
  }
  EXPECT_EQ(List(daemon).size(), 1000);
  // Removed under way: what is listed is whole nevertheless.
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(daemon.Ask(RemoveRequest(absl::StrCat("m", i))), "OK=1");
  }
  EXPECT_THAT(List(daemon), IsEmpty());
}

TEST(Keeper, IsAloneInItsFolder) {
  KeeperProcess keeper;
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir", keeper.folder()}), 69);
  const Fd file = FileWith("text");
  EXPECT_EQ(Connect(keeper).Ask(StoreRequest("m"), {file.get()}), "OK=1");
  keeper.Kill();
  keeper.Start();
  EXPECT_THAT(ListOf(keeper), IsEmpty());
}

TEST(Keeper, IsFoundAgainAfterItsSocketWasRemoved) {
  const KeeperProcess keeper;
  const RawPeer daemon = Connect(keeper);
  const Fd file = FileWith("text");
  EXPECT_EQ(daemon.Ask(StoreRequest("m"), {file.get()}), "OK=1");
  for (int times = 0; times < 2; ++times) {
    ASSERT_EQ(unlink(keeper.socket().c_str()), 0);
    while (!RawPeer(keeper.socket()).connected()) {
      ASSERT_EQ(kill(keeper.pid(), 0), 0);
    }
    EXPECT_THAT(ListOf(keeper), ElementsAre(Pair("m", "text")));
  }
  EXPECT_EQ(daemon.Ask(RemoveRequest("m")), "OK=1") << "whoever was connected still is";
}

TEST(Keeper, EndsOnceNobodyCanFindItAndNobodyIsConnected) {
  KeeperProcess keeper;
  std::optional<RawPeer> daemon = Connect(keeper);
  ASSERT_EQ(rename(keeper.folder().c_str(), (keeper.folder() + ".gone").c_str()), 0);
  const pid_t lost = keeper.Abandon();
  keeper.Start();
  const Fd file = FileWith("text");
  // Longer than it takes to notice.
  absl::SleepFor(absl::Milliseconds(1500));
  EXPECT_EQ(daemon->Ask(StoreRequest("m"), {file.get()}), "OK=1");
  daemon.reset();
  int status = 0;
  ASSERT_EQ(waitpid(lost, &status, 0), lost);
  EXPECT_EQ(WEXITSTATUS(status), 69);
  EXPECT_THAT(ListOf(keeper), IsEmpty()) << "the other one's socket is let alone";
}

TEST(Keeper, TakesAFolderThatWasEmptiedAgain) {
  const KeeperProcess keeper;
  const RawPeer daemon = Connect(keeper);
  const Fd file = FileWith("text");
  EXPECT_EQ(daemon.Ask(StoreRequest("m"), {file.get()}), "OK=1");
  Empty(keeper.folder());
  while (!RawPeer(keeper.socket()).connected()) {
    ASSERT_EQ(kill(keeper.pid(), 0), 0);
  }
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir", keeper.folder()}), 69) << "it is locked again";
  EXPECT_THAT(ListOf(keeper), ElementsAre(Pair("m", "text")));
}

TEST(Keeper, LeavesAFolderToAnotherThatTookIt) {
  KeeperProcess keeper;
  std::optional<RawPeer> daemon = Connect(keeper);
  const Fd file = FileWith("text");
  keeper.Freeze();
  Empty(keeper.folder());
  const pid_t first = keeper.Abandon();
  keeper.Start();
  struct stat before{};
  ASSERT_EQ(stat(keeper.socket().c_str(), &before), 0);
  ASSERT_EQ(kill(first, SIGCONT), 0);
  // Longer than it takes to notice.
  absl::SleepFor(absl::Milliseconds(1500));
  EXPECT_EQ(daemon->Ask(StoreRequest("m"), {file.get()}), "OK=1") << "whoever is connected stays";
  struct stat after{};
  ASSERT_EQ(stat(keeper.socket().c_str(), &after), 0);
  ASSERT_EQ(after.st_ino, before.st_ino) << "they would fight for ever";
  daemon.reset();
  int status = 0;
  ASSERT_EQ(waitpid(first, &status, 0), first);
  EXPECT_EQ(WEXITSTATUS(status), 69);
  EXPECT_THAT(ListOf(keeper), IsEmpty());
}

TEST(Keeper, RestsWhileItHasNoDescriptorForOneMore) {
  const KeeperProcess keeper;
  std::optional<RawPeer> first = Connect(keeper);
  const auto files =
      std::filesystem::directory_iterator(absl::StrCat("/proc/", keeper.pid(), "/fd"));
  const auto taken = static_cast<rlim_t>(std::distance(begin(files), end(files)));
  const rlimit none_left = {taken, taken};
  ASSERT_EQ(prlimit(keeper.pid(), RLIMIT_NOFILE, &none_left, nullptr), 0);
  const RawPeer second(keeper.socket());
  ASSERT_TRUE(second.connected());
  clockid_t clock = 0;
  ASSERT_EQ(clock_getcpuclockid(keeper.pid(), &clock), 0);
  const auto used = [clock] {
    timespec time{};
    clock_gettime(clock, &time);
    return absl::DurationFromTimespec(time);
  };
  const absl::Duration before = used();
  absl::SleepFor(absl::Milliseconds(500));  // what is measured
  EXPECT_LT(used() - before, absl::Milliseconds(100));
  EXPECT_EQ(first->Ask(RemoveRequest("m")), "OK=1");
  first.reset();
  EXPECT_THAT(second.Hear().bytes, StartsWith("KEEPER=1"));
}

TEST(Keeper, EndsCleanlyWhenTold) {
  KeeperProcess keeper;
  EXPECT_EQ(keeper.Stop(), 0);
  EXPECT_NE(access(keeper.socket().c_str(), F_OK), 0);
  keeper.Start();
  EXPECT_THAT(ListOf(keeper), IsEmpty());
}

TEST(Keeper, RefusesAFolderThatOthersMayChange) {
  KeeperProcess keeper;
  EXPECT_EQ(keeper.Stop(), 0);
  ASSERT_EQ(chmod(keeper.folder().c_str(), 0770), 0);
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir", keeper.folder()}), 69);
  ASSERT_EQ(chmod(keeper.folder().c_str(), 0700), 0);
  std::ofstream(keeper.socket()) << "no socket";
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir", keeper.folder()}), 69);
  ASSERT_EQ(unlink(keeper.socket().c_str()), 0);
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir", keeper.folder() + "/not/there"}), 69);
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir=" + keeper.folder() + std::string(200, 'x')}), 69);
  keeper.Start();
}

TEST(Keeper, TellsTheServiceManagerWhenItServes) {
  const std::string path = absl::StrCat("/tmp/weightd-notify-", getpid());
  const Fd manager(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(manager.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  const KeeperProcess keeper;
  unsetenv("NOTIFY_SOCKET");
  EXPECT_EQ(ReceivePacket(manager.get(), true)->bytes, "READY=1");
  unlink(path.c_str());
}

TEST(Keeper, SaysWhatItIsAndHowItIsUsed) {
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--version"}), 0);
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--help"}), 0);
  EXPECT_EQ(RunToEnd({kKeeperProgram}), 64);
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir"}), 64);
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir", ""}), 64);
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--dir="}), 64);
  EXPECT_EQ(RunToEnd({kKeeperProgram, "--directory", "/tmp"}), 64);
}

TEST(Keeper, TakesLittleMemory) {
  if (kInstrumented) {
    GTEST_SKIP() << "sanitizers take more";
  }
  const KeeperProcess keeper;
  const RawPeer daemon = Connect(keeper);
  for (int i = 0; i < 2000; ++i) {
    const Fd file = FileWith("text");
    EXPECT_EQ(
        daemon.Ask(StoreRequest(absl::StrCat("revision-", std::string(64, 'a'), i)), {file.get()}),
        "OK=1");
  }
  std::ifstream status(absl::StrCat("/proc/", keeper.pid(), "/status"));
  std::map<std::string, int> kilobytes;
  for (std::string line; std::getline(status, line);) {
    kilobytes[line.substr(0, line.find(':'))] = std::atoi(line.c_str() + line.find(':') + 1);
  }
  RecordProperty("rss_kilobytes", kilobytes["VmRSS"]);
  EXPECT_LT(kilobytes["VmHWM"], 5 * 1024);
}

}  // namespace
}  // namespace weightd
