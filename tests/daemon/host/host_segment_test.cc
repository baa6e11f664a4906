#include "daemon/host/host_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/fd.h"
#include "common/mapping.h"
#include "common/status.h"
#include "gtest/gtest.h"

namespace weightd::host {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::shared_ptr<HostTier> Tier(uint64_t budget = 64 * kMiB, bool mlock = false) {
  HostTierOptions options;
  options.budget = budget;
  options.mlock = mlock;
  options.available_memory = []() -> absl::StatusOr<uint64_t> { return uint64_t{1} << 50; };
  return std::make_shared<HostTier>(std::move(options));
}

WritableSegment Writable(const std::shared_ptr<HostTier>& tier, uint64_t size) {
  return WritableSegment::Create("test", size, tier->Reserve(size).value()).value();
}

std::shared_ptr<HostSegment> Sealed(const std::shared_ptr<HostTier>& tier, uint64_t size,
                                    char fill = 'w') {
  WritableSegment writable = Writable(tier, size);
  memset(writable.bytes().data(), fill, size);
  return std::move(writable).Seal().value();
}

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

// Runs `body` in a forked process and returns its result; -1 if the process was killed.
int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    _exit(body());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// A process that holds on to something until told to go.
class Holder {
 public:
  // `take` runs in the new process before the constructor returns.
  explicit Holder(const std::function<void()>& take) {
    int ready[2];
    int go[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(go, O_CLOEXEC), 0);
    child_ = fork();
    char byte = 0;
    if (child_ == 0) {
      close(go[1]);
      take();
      (void)!write(ready[1], &byte, 1);
      (void)!read(go[0], &byte, 1);
      _exit(0);
    }
    close(ready[1]);
    close(go[0]);
    go_.Reset(go[1]);
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
  }
  ~Holder() { End(); }

  void End() {
    if (child_ > 0) {
      go_.Reset();
      waitpid(child_, nullptr, 0);
      child_ = -1;
    }
  }
  void Kill() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = -1;
  }

 private:
  pid_t child_ = -1;
  Fd go_;
};

TEST(WritableSegment, IsZeroedRoundedToPagesAndCharged) {
  const auto tier = Tier();
  const WritableSegment segment = Writable(tier, 5000);
  EXPECT_EQ(segment.bytes().size(), 8192u);
  EXPECT_EQ(segment.bytes()[0], std::byte{0});
  EXPECT_EQ(segment.bytes()[8191], std::byte{0});
  EXPECT_EQ(tier->usage().loading, 8192u);
}

TEST(WritableSegment, DroppingItFreesEverything) {
  const auto tier = Tier();
  const size_t descriptors = OpenDescriptors();
  {
    WritableSegment segment = Writable(tier, kMiB);
    ASSERT_TRUE(segment.Populate({0, kMiB}).ok());
  }
  EXPECT_EQ(tier->usage().loading, 0u);
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

TEST(WritableSegment, RefusesMoreThanItsReservation) {
  const auto tier = Tier();
  EXPECT_FALSE(WritableSegment::Create("x", 4097, tier->Reserve(4096).value()).ok());
  EXPECT_FALSE(WritableSegment::Create("x", 0, tier->Reserve(4096).value()).ok());
  EXPECT_EQ(tier->usage().loading, 0u);
}

TEST(WritableSegment, LongLabelsAreCut) {
  const auto tier = Tier();
  EXPECT_TRUE(WritableSegment::Create(std::string(1000, 'n'), 1, tier->Reserve(1).value()).ok());
}

TEST(WritableSegment, PopulateMakesPagesPresentAndKeepsBytes) {
  const auto tier = Tier();
  WritableSegment segment = Writable(tier, 4 * kMiB);
  segment.bytes()[kMiB] = std::byte{7};
  EXPECT_TRUE(segment.Populate({100, 3 * kMiB}).ok());
  EXPECT_TRUE(segment.Populate({0, 100 * kMiB}).ok());
  EXPECT_TRUE(segment.Populate({50 * kMiB, 60 * kMiB}).ok());
  EXPECT_TRUE(segment.Populate({5, 5}).ok());
  EXPECT_EQ(segment.bytes()[kMiB], std::byte{7});
  std::vector<unsigned char> present(segment.bytes().size() / kPageBytes);
  ASSERT_EQ(mincore(segment.bytes().data(), segment.bytes().size(), present.data()), 0);
  for (const unsigned char page : present) {
    EXPECT_EQ(page & 1, 1);
  }
}

TEST(WritableSegment, WhatIsPopulatedIsNotAwaitedFromTheMachineOnceMore) {
  HostTierOptions options;
  options.budget = 100 * kMiB;
  options.available_memory = []() -> absl::StatusOr<uint64_t> { return 10 * kMiB; };
  const auto tier = std::make_shared<HostTier>(std::move(options));
  WritableSegment loading = Writable(tier, 8 * kMiB);
  EXPECT_EQ(ReasonOf(tier->Reserve(8 * kMiB).status()), Reason::kHostMemoryShort);
  ASSERT_TRUE(loading.Populate({0, 8 * kMiB}).ok());
  EXPECT_TRUE(tier->Reserve(8 * kMiB).ok());
  ASSERT_TRUE(loading.Populate({0, 8 * kMiB}).ok());
  const auto sealed = std::move(loading).Seal();
  ASSERT_TRUE(sealed.ok());
  EXPECT_EQ(tier->usage().loading, 0u);
  EXPECT_TRUE(tier->Reserve(10 * kMiB).ok());
  EXPECT_FALSE(tier->Reserve(11 * kMiB).ok());
}

TEST(Seal, KeepsTheBytesAndCountsThemAsResident) {
  const auto tier = Tier();
  const auto segment = Sealed(tier, kMiB);
  ASSERT_EQ(segment->size(), kMiB);
  EXPECT_EQ(segment->charged_bytes(), kMiB);
  EXPECT_EQ(segment->bytes()[0], std::byte{'w'});
  EXPECT_EQ(segment->bytes()[kMiB - 1], std::byte{'w'});
  EXPECT_EQ(tier->usage().resident, kMiB);
  EXPECT_EQ(tier->usage().loading, 0u);
}

TEST(Seal, FailsWhileSomebodyMapsItWritable) {
  const auto tier = Tier();
  WritableSegment writable = Writable(tier, kMiB);
  // A forked child keeps a copy of the writable mapping, as I/O under way keeps its pages.
  Holder child([] {});
  const auto sealed = std::move(writable).Seal();
  EXPECT_EQ(ReasonOf(sealed.status()), Reason::kInternal) << sealed.status();
}

// Everything that could change a sealed segment, tried on a client's descriptor. Returns the number
// of the first that works.
int TryToChange(int fd, size_t size) {
  const std::string path = absl::StrCat("/proc/self/fd/", fd);
  const auto writable_map = [&](int descriptor) {
    void* const map = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    return map != MAP_FAILED;
  };
  const auto change = [&](int descriptor) {
    if (write(descriptor, "x", 1) >= 0) return 1;
    if (pwrite(descriptor, "x", 1, 0) >= 0) return 2;
    if (writable_map(descriptor)) return 3;
    if (ftruncate(descriptor, 0) == 0) return 4;
    if (ftruncate(descriptor, static_cast<off_t>(size) * 2) == 0) return 5;
    if (fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0) return 6;
    if (fallocate(descriptor, 0, 0, static_cast<off_t>(size) * 2) == 0) return 7;
    if (fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK) == 0) return 8;
    return 0;
  };
  if (const int worked = change(fd)) return worked;
  void* const shared = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (shared == MAP_FAILED) return 9;
  if (mprotect(shared, size, PROT_READ | PROT_WRITE) == 0) return 10;
  if (madvise(shared, 4096, MADV_REMOVE) == 0) return 11;
  if (truncate(path.c_str(), 0) == 0) return 12;
  const int reopened = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (reopened < 0) return geteuid() == 0 ? 13 : 0;
  if (geteuid() != 0) return 14;
  if (const int worked = change(reopened)) return 20 + worked;
  const int truncated = open(path.c_str(), O_RDWR | O_TRUNC | O_CLOEXEC);
  if (truncated >= 0 && static_cast<const char*>(shared)[0] != 'w') return 30;
  return static_cast<const char*>(shared)[0] == 'w' ? 0 : 31;
}

TEST(SealedSegment, NothingChangesItNotEvenRoot) {
  ASSERT_EQ(geteuid(), 0u) << "run the tests as root";
  const auto segment = Sealed(Tier(), kMiB);
  const auto fd = segment->OpenForClient("listener");
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(InChild([&] { return TryToChange(fd->get(), segment->size()); }), 0);
  EXPECT_EQ(segment->bytes()[0], std::byte{'w'});
}

TEST(SealedSegment, NothingChangesItAsAnotherUser) {
  const auto segment = Sealed(Tier(), kMiB);
  const auto fd = segment->OpenForClient("listener");
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(InChild([&] {
              if (setgid(65534) != 0 || setuid(65534) != 0) return 99;
              return TryToChange(fd->get(), segment->size());
            }),
            0);
  EXPECT_EQ(segment->bytes()[0], std::byte{'w'});
}

TEST(SealedSegment, HasAllSealsAndNoWriteBits) {
  const auto segment = Sealed(Tier(), kMiB);
  const auto fd = segment->OpenForClient("listener");
  ASSERT_TRUE(fd.ok());
  const int wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  EXPECT_EQ(fcntl(fd->get(), F_GET_SEALS) & wanted, wanted);
  EXPECT_EQ(fcntl(fd->get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_EQ(fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  struct stat status = {};
  ASSERT_EQ(fstat(fd->get(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0444u);
  EXPECT_EQ(static_cast<uint64_t>(status.st_size), segment->size());
}

TEST(SealedSegment, PrivateWritesAreSeenByNobodyElse) {
  const auto segment = Sealed(Tier(), kMiB);
  const auto fd = segment->OpenForClient("listener");
  auto own = Mapping::Map(fd->get(), segment->size(), Mapping::Access::kPrivateWritable);
  auto other = Mapping::Map(fd->get(), segment->size(), Mapping::Access::kPrivateWritable);
  ASSERT_TRUE(own.ok() && other.ok());
  memset(own->data(), 'x', own->size());
  EXPECT_EQ(other->data()[100], std::byte{'w'});
  EXPECT_EQ(segment->bytes()[100], std::byte{'w'});
}

TEST(HeldByOthers, SeesDescriptorsAndMappingsOfOthers) {
  const auto segment = Sealed(Tier(), kMiB);
  EXPECT_FALSE(segment->HeldByOthers());
  EXPECT_FALSE(segment->HeldByOthers()) << "asking leaves no trace";
  {
    const auto fd = segment->OpenForClient("listener");
    EXPECT_TRUE(segment->HeldByOthers());
  }
  EXPECT_FALSE(segment->HeldByOthers());
  Mapping mapping;
  {
    const auto fd = segment->OpenForClient("listener");
    mapping = Mapping::Map(fd->get(), kMiB, Mapping::Access::kPrivateWritable).value();
  }
  EXPECT_TRUE(segment->HeldByOthers());
  mapping.Reset();
  EXPECT_FALSE(segment->HeldByOthers());
}

// The path through which this process keeps the segment named "test" open.
std::string PathOfOwnDescriptor() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    if (absl::StrContains(target.string(), "weightd:test")) {
      return entry.path().string();
    }
  }
  return {};
}

TEST(HeldByOthers, AnOpenThroughProcWhileAskingHarmsNobody) {
  // Root may open our descriptors through /proc at any moment, and so break the lease that asks: by
  // default a deadly signal.
  const auto segment = Sealed(Tier(), kMiB);
  const std::string path = PathOfOwnDescriptor();
  ASSERT_FALSE(path.empty());
  constexpr int kOpens = 2000;
  std::atomic<int> opens = 0;
  std::thread opener([&] {
    for (; opens < kOpens; ++opens) {
      const Fd opened(open(path.c_str(), O_RDONLY | O_CLOEXEC));
      EXPECT_TRUE(opened.valid());
    }
  });
  while (opens < kOpens) {
    segment->HeldByOthers();
  }
  opener.join();
  EXPECT_FALSE(segment->HeldByOthers());
}

TEST(Draining, ASegmentThatNobodyHoldsIsFreedAtOnce) {
  const auto tier = Tier();
  const size_t descriptors = OpenDescriptors();
  auto segment = Sealed(tier, kMiB);
  segment->OpenForClient("listener").value();
  segment.reset();
  EXPECT_EQ(tier->usage().resident, 0u);
  EXPECT_EQ(tier->usage().draining, 0u);
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

TEST(Draining, AMappingInAnotherProcessKeepsTheChargeUntilItGoes) {
  const auto tier = Tier(2 * kMiB);
  auto segment = Sealed(tier, 2 * kMiB);
  auto fd = segment->OpenForClient("b");
  segment->OpenForClient("a").value();
  Holder client([&] {
    if (mmap(nullptr, 2 * kMiB, PROT_READ, MAP_PRIVATE, fd->get(), 0) == MAP_FAILED) _exit(1);
    close(fd->get());
    // What a forked child inherits from us would not be a client's: leave only the mapping.
    munmap(const_cast<std::byte*>(segment->bytes().data()), segment->size());
    for (int descriptor = 3; descriptor < 256; ++descriptor) {
      struct stat status = {};
      if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) close(descriptor);
    }
  });
  fd = Fd();
  segment.reset();

  EXPECT_EQ(tier->usage().draining, 2 * kMiB);
  EXPECT_EQ(tier->usage().resident, 0u);
  ASSERT_EQ(tier->draining().size(), 1u);
  EXPECT_EQ(tier->draining()[0].label, "test");
  EXPECT_EQ(tier->draining()[0].holders, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(tier->CollectDrained().empty());
  const absl::Status refused = tier->Reserve(4096).status();
  EXPECT_EQ(ReasonOf(refused), Reason::kBudgetExceeded);
  EXPECT_TRUE(absl::StrContains(refused.message(), "2.0 MiB by evicted models")) << refused;

  client.Kill();
  EXPECT_TRUE(tier->Reserve(2 * kMiB).ok()) << "a reservation looks for drained segments itself";
  EXPECT_TRUE(tier->draining().empty());
}

TEST(Draining, CollectReportsWhatWent) {
  const auto tier = Tier();
  const size_t descriptors = OpenDescriptors();
  auto first = Sealed(tier, kMiB);
  auto second = Sealed(tier, 2 * kMiB);
  auto held = first->OpenForClient("x");
  auto also_held = second->OpenForClient("x");
  first.reset();
  second.reset();
  EXPECT_EQ(tier->usage().draining, 3 * kMiB);
  held = Fd();
  const auto gone = tier->CollectDrained();
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].bytes, kMiB);
  EXPECT_EQ(tier->usage().draining, 2 * kMiB);
  also_held = Fd();
  EXPECT_EQ(tier->CollectDrained().size(), 1u);
  EXPECT_EQ(tier->usage().draining, 0u);
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

TEST(Draining, AReservationThatHasRoomLeavesTheFreeingToOthers) {
  const auto tier = Tier(4 * kMiB);
  auto segment = Sealed(tier, kMiB);
  auto held = segment->OpenForClient("x");
  segment.reset();
  held = Fd();
  const auto reservation = tier->Reserve(3 * kMiB);
  EXPECT_TRUE(reservation.ok());
  EXPECT_EQ(tier->draining().size(), 1u);
  EXPECT_TRUE(tier->Reserve(kMiB).ok());
  EXPECT_TRUE(tier->draining().empty());
}

TEST(Draining, ClientsStillReadWhatDrains) {
  const auto tier = Tier();
  auto segment = Sealed(tier, kMiB);
  const auto fd = segment->OpenForClient("x");
  const auto mapping = Mapping::Map(fd->get(), kMiB, Mapping::Access::kSharedReadOnly);
  segment.reset();
  EXPECT_EQ(mapping->data()[kMiB - 1], std::byte{'w'});
}

TEST(Draining, TheTierMayEndBeforeWhatDrains) {
  auto tier = Tier();
  const std::weak_ptr<HostTier> watched = tier;
  auto segment = Sealed(tier, kMiB);
  const auto fd = segment->OpenForClient("x");
  segment.reset();
  tier.reset();
  EXPECT_TRUE(watched.expired());
}

TEST(Segments, ConcurrentUseStaysWithinTheBudgetAndLeaksNothing) {
  const auto tier = Tier(8 * kMiB);
  const size_t descriptors = OpenDescriptors();
  std::vector<std::thread> threads;
  threads.reserve(4);
  std::atomic<bool> exceeded = false;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        auto reservation = tier->Reserve(3 * kMiB);
        if (!reservation.ok()) continue;
        auto writable = WritableSegment::Create("c", 3 * kMiB, *std::move(reservation)).value();
        if (!writable.Populate({0, kMiB}).ok()) exceeded = true;
        auto segment = std::move(writable).Seal().value();
        const auto fd = segment->OpenForClient("l");
        segment.reset();
        const HostUsage usage = tier->usage();
        if (usage.resident + usage.loading + usage.draining > usage.budget) exceeded = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(exceeded);
  tier->CollectDrained();
  const HostUsage usage = tier->usage();
  EXPECT_EQ(usage.resident + usage.loading + usage.draining, 0u);
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

TEST(Mlock, IsAskedForAndNeverFatal) {
  const auto segment = Sealed(Tier(64 * kMiB, /*mlock=*/true), kMiB);
  EXPECT_EQ(segment->bytes()[0], std::byte{'w'});
  EXPECT_FALSE(Sealed(Tier(), kMiB)->locked());
}

TEST(HugePages, FractionIsBetweenNoneAndAll) {
  const auto tier = Tier();
  WritableSegment writable = Writable(tier, 16 * kMiB);
  ASSERT_TRUE(writable.Populate({0, 16 * kMiB}).ok());
  const auto segment = std::move(writable).Seal().value();
  const auto fraction = segment->HugePageFraction();
  ASSERT_TRUE(fraction.ok()) << fraction.status();
  EXPECT_GE(*fraction, 0.0);
  EXPECT_LE(*fraction, 1.0);
  std::string setting(256, '\0');
  const Fd file(open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_RDONLY | O_CLOEXEC));
  if (read(file.get(), setting.data(), setting.size()) > 0 &&
      (absl::StrContains(setting, "[never]") || absl::StrContains(setting, "[deny]"))) {
    EXPECT_EQ(*fraction, 0.0);
  } else {
    EXPECT_GT(*fraction, 0.5);
  }
}

}  // namespace
}  // namespace weightd::host
