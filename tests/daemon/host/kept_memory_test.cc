#include "daemon/host/kept_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "common/byte_range.h"
#include "common/fd.h"
#include "common/mapping.h"
#include "common/status.h"
#include "daemon/host/holders.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "gtest/gtest.h"

namespace weightd::host {
namespace {

constexpr int kAllSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr uint64_t kBytes = 4 * kPageBytes;

std::shared_ptr<HostTier> Tier(uint64_t budget = 64 * kPageBytes, bool mlock = false) {
  HostTierOptions options;
  options.budget = budget;
  options.mlock = mlock;
  options.available_memory = []() -> absl::StatusOr<uint64_t> { return uint64_t{1} << 50; };
  return std::make_shared<HostTier>(std::move(options));
}

// Open for reading and writing.
Fd Memfd(uint64_t bytes, int seals) {
  Fd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  EXPECT_TRUE(seals == 0 || fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

Fd Sealed(uint64_t bytes = kBytes, int seals = kAllSeals) {
  return Memfd(bytes, seals).ReopenReadOnly().value();
}

std::shared_ptr<HostSegment> Segment(const std::shared_ptr<HostTier>& tier, char fill) {
  WritableSegment writable =
      WritableSegment::Create("first", kBytes, tier->Reserve(kBytes).value()).value();
  memset(writable.bytes().data(), fill, kBytes);
  return std::move(writable).Seal().value();
}

absl::StatusOr<std::shared_ptr<HostSegment>> Adopt(const std::shared_ptr<HostTier>& tier, Fd kept,
                                                   std::vector<std::string> holders = {}) {
  return HostSegment::Adopt("second", std::move(kept), kBytes, tier->ReserveFilled(kBytes).value(),
                            std::move(holders));
}

TEST(CheckSealed, TakesWhatSegmentsKeep) {
  const auto segment = Segment(Tier(), 'a');
  EXPECT_TRUE(CheckSealed(segment->kept(), kBytes).ok());
  EXPECT_TRUE(CheckSealed(Sealed(), kBytes).ok());
  EXPECT_EQ(*MemoryIdOf(segment->kept()), *MemoryIdOf(segment->kept().Duplicate().value()));
  EXPECT_FALSE(*MemoryIdOf(segment->kept()) == *MemoryIdOf(Sealed()));
}

void ExpectRefused(const Fd& fd, absl::string_view why, uint64_t bytes = kBytes) {
  ASSERT_TRUE(fd.valid());
  const absl::Status status = CheckSealed(fd, bytes);
  EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed);
  EXPECT_TRUE(absl::StrContains(status.message(), why)) << status;
  EXPECT_FALSE(CheckWritable(fd, kBytes).ok());
}

TEST(CheckSealed, RefusesMemoryThatSomebodyMayChange) {
  for (const int missing : {F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL}) {
    ExpectRefused(Sealed(kBytes, kAllSeals & ~missing), "not sealed");
  }
  const Fd unsealed = Memfd(kBytes, 0);
  const auto written = Mapping::Map(unsealed.get(), kBytes, Mapping::Access::kSharedWritable);
  ASSERT_TRUE(written.ok());
  EXPECT_EQ(fcntl(unsealed.get(), F_ADD_SEALS, F_SEAL_WRITE), -1) << "it is mapped writable";
  ExpectRefused(unsealed.ReopenReadOnly().value(), "not sealed");
}

TEST(CheckSealed, RefusesAnotherLengthAndADescriptorForWriting) {
  ExpectRefused(Sealed(kBytes - kPageBytes), "bytes long");
  ExpectRefused(Sealed(kBytes + kPageBytes), "bytes long");
  ExpectRefused(Sealed(0), "bytes long", 0);
  ExpectRefused(Memfd(kBytes, kAllSeals), "opened for writing");
}

TEST(CheckSealed, RefusesWhatIsNoMemfd) {
  char path[] = "/tmp/kept_memory_test.XXXXXX";
  const Fd made(mkstemp(path));
  ASSERT_EQ(ftruncate(made.get(), kBytes), 0);
  ExpectRefused(Fd(open(path, O_RDONLY)), "no memfd");
  unlink(path);
  ExpectRefused(Fd(open("/tmp", O_RDONLY | O_DIRECTORY)), "no memfd");
  ExpectRefused(Fd(open("/dev/null", O_RDONLY)), "no memfd");
  ExpectRefused(Fd(open("/dev/shm", O_PATH | O_CLOEXEC)), "no memfd");
  ExpectRefused(Fd(socket(AF_UNIX, SOCK_STREAM, 0)), "no memfd");
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const Fd writing(pipe_ends[1]);
  ExpectRefused(Fd(pipe_ends[0]), "no memfd");
}

TEST(CheckSealed, RefusesAnotherUsers) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "needs root to make another user's memfd";
  }
  ASSERT_EQ(seteuid(65534), 0);
  const Fd theirs = Sealed();
  ASSERT_EQ(seteuid(0), 0);
  ExpectRefused(theirs, "made by the user 65534");
}

TEST(CheckWritable, TakesOnlyMemfdsOfOneLengthThatCanBeWritten) {
  constexpr int kLength = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  EXPECT_EQ(*CheckWritable(Memfd(kBytes, kLength), kBytes), kBytes);
  EXPECT_FALSE(CheckWritable(Memfd(kBytes, kLength), kBytes - 1).ok());
  EXPECT_FALSE(CheckWritable(Memfd(kBytes, kAllSeals), kBytes).ok());
  EXPECT_FALSE(CheckWritable(Memfd(kBytes, F_SEAL_SEAL), kBytes).ok());
  EXPECT_FALSE(CheckWritable(Memfd(kBytes, kLength).ReopenReadOnly().value(), kBytes).ok());
}

TEST(Adopt, GivesTheBytesOfAnEarlierSegmentAndIsCharged) {
  Fd kept;
  {
    const auto segment = Segment(Tier(), 'a');
    kept = segment->kept().Duplicate().value();
  }
  const auto tier = Tier();
  {
    const auto adopted = Adopt(tier, std::move(kept), {"other", "test"});
    ASSERT_TRUE(adopted.ok()) << adopted.status();
    EXPECT_EQ((*adopted)->bytes()[kBytes - 1], std::byte{'a'});
    EXPECT_EQ(tier->usage().resident, kBytes);
    EXPECT_TRUE((*adopted)->GivenTo("test"));
    EXPECT_FALSE((*adopted)->HeldByOthers());
    EXPECT_FALSE((*adopted)->LockMore()) << "this tier doesn't lock";
  }
  EXPECT_EQ(tier->usage().resident, 0u);
}

TEST(Adopt, SeesWhoHeldItBefore) {
  auto segment = Segment(Tier(), 'a');
  Fd kept = segment->kept().Duplicate().value();
  Fd client = segment->OpenForClient("test").value();
  segment.reset();
  const auto tier = Tier();
  auto adopted = Adopt(tier, std::move(kept)).value();
  EXPECT_TRUE(adopted->HeldByOthers());
  adopted.reset();
  EXPECT_EQ(tier->usage().draining, kBytes);
  client.Reset();
  EXPECT_EQ(tier->CollectDrained().size(), 1u);
  EXPECT_EQ(tier->usage().draining, 0u);
}

TEST(Adopt, EndsTheLeaseOfADaemonThatDiedWhileItAsked) {
  auto segment = Segment(Tier(), 'a');
  Fd kept = segment->kept().Duplicate().value();
  ASSERT_EQ(fcntl(kept.get(), F_SETLEASE, F_WRLCK), 0);
  segment.reset();
  const auto tier = Tier();
  auto adopted = Adopt(tier, std::move(kept)).value();
  EXPECT_EQ(fcntl(adopted->kept().get(), F_GETLEASE), F_UNLCK);
}

TEST(Adopt, RefusesWhatDoesNotCheckOut) {
  const auto tier = Tier();
  EXPECT_FALSE(Adopt(tier, Sealed(kBytes, 0)).ok());
  EXPECT_FALSE(Adopt(tier, Sealed(kPageBytes)).ok());
  EXPECT_EQ(tier->usage().resident, 0u);
}

TEST(Adopt, LocksStepByStep) {
  const auto tier = Tier(64 * kPageBytes, /*mlock=*/true);
  auto adopted = Adopt(tier, Sealed()).value();
  EXPECT_FALSE(adopted->locked());
  EXPECT_FALSE(adopted->LockMore()) << "one step is enough";
  EXPECT_TRUE(adopted->locked());
}

TEST(ReserveFilled, AsksTheBudgetAndNotTheMachine) {
  HostTierOptions options;
  options.budget = kBytes;
  options.available_memory = []() -> absl::StatusOr<uint64_t> { return 0; };
  const auto tier = std::make_shared<HostTier>(std::move(options));
  EXPECT_EQ(ReasonOf(tier->Reserve(kBytes).status()), Reason::kHostMemoryShort);
  const auto filled = tier->ReserveFilled(kBytes);
  ASSERT_TRUE(filled.ok());
  EXPECT_EQ(tier->usage().resident, kBytes);
  EXPECT_EQ(ReasonOf(tier->ReserveFilled(1).status()), Reason::kBudgetExceeded);
}

TEST(TieTo, DiesWithTheMemoryAndNotWithTheSegment) {
  const auto tier = Tier();
  auto tied = std::make_shared<int>();
  auto segment = Segment(tier, 'a');
  segment->TieTo(tied);
  Fd client = segment->OpenForClient("test").value();
  segment.reset();
  EXPECT_EQ(tied.use_count(), 2) << "it drains";
  client.Reset();
  tier->CollectDrained();
  EXPECT_EQ(tied.use_count(), 1);
  segment = Segment(tier, 'b');
  segment->TieTo(tied);
  segment.reset();
  EXPECT_EQ(tied.use_count(), 1);
}

}  // namespace
}  // namespace weightd::host
