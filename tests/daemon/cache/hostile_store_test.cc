#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/fd.h"
#include "daemon/cache/card.h"
#include "daemon/cache/card_facts.h"
#include "daemon/host/kept_memory.h"
#include "gtest/gtest.h"
#include "tests/daemon/cache/readoption_fixture.h"
#include "tests/fakes/fake_loader.h"

namespace weightd::cache {
namespace {

// What is in the store is not what the only model's daemon left there.
class HostileStoreTest : public ReadoptionTest {
 protected:
  void SetUp() override {
    ReadoptionTest::SetUp();
    Put("m", 4);
    Load("m");
    Stop();
    tier_.reset();
  }

  static Fd Memfd(uint64_t pages, int seals) {
    Fd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(pages * kPageBytes)), 0);
    EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    return fd.ReopenReadOnly().value();
  }

  // The next daemon says `why`, once, and serves nothing of it.
  void ExpectRefused(const std::string& why) {
    const std::string place = fds_.NamesOf("").at(0).substr(0, 37);
    Next();
    EXPECT_TRUE(absl::StrContains(Complaint(), why)) << Complaint();
    EXPECT_TRUE(absl::StrContains(Complaint(), place.substr(5))) << Complaint();
    EXPECT_FALSE(IsResident("m"));
    AwaitResidentPages(0);
    EXPECT_EQ(UsedPages(), 0u);
    AwaitStored(0);
    // As good as before.
    Load("m");
    EXPECT_EQ(store_.loads(), 2);
  }
};

TEST_F(HostileStoreTest, NamesThatAreNone) {
  for (const char* const name :
       {"x", "host.", "host.0.card", "host.zz000000000000000000000000000000.card",
        "host.00000000000000000000000000000000.", "host.00000000000000000000000000000000.weight",
        "host.00000000000000000000000000000000.card.card"}) {
    fds_.Store(name, fds_.Find(NameOf("weights")));
  }
  Next();
  const Event unknown = trail_->Await(EventKind::kNotReadopted);
  EXPECT_EQ(unknown.unknown_descriptors, 7u);
  EXPECT_TRUE(absl::StrContains(unknown.error.message(), "of no model: 7: "));
  EXPECT_TRUE(absl::StrContains(unknown.error.message(), "host.0.card, "));
  EXPECT_EQ(trail_->Count(EventKind::kNotReadopted), 1);
  EXPECT_EQ(cache_->Readoption().not_readopted, 0u) << "they are no models";
  EXPECT_EQ(cache_->Readoption().unknown, 7u);
  EXPECT_TRUE(IsResident("m"));
  EXPECT_EQ(fds_.Names().size(), 3u);
}

TEST_F(HostileStoreTest, APinThatIsLostIsCounted) {
  Next();
  ASSERT_TRUE(cache_->Pin(Named("m"), true).ok());
  Stop();
  fds_.Remove(NameOf("index"));
  Next();
  EXPECT_TRUE(trail_->Await(EventKind::kNotReadopted).pin_lost);
  const ReadoptionSnapshot readoption = cache_->Readoption();
  EXPECT_EQ(readoption.readopted, 0u);
  EXPECT_EQ(readoption.not_readopted, 1u);
  EXPECT_EQ(readoption.pins_lost, 1u);
  ASSERT_EQ(readoption.failures.size(), 1u);
  EXPECT_EQ(readoption.failures[0].uri, Named("m"));
  EXPECT_TRUE(readoption.failures[0].pinned);
  EXPECT_TRUE(absl::StrContains(readoption.failures[0].why.message(), "its index: not there"));
}

TEST_F(HostileStoreTest, OfManyFailuresTheFirstAreTold) {
  for (int i = 0; i < 30; ++i) {
    fds_.Store(absl::StrCat("garbage", i), Memfd(1, 0));
    fds_.Store(absl::StrFormat("host.%032d.weights", i), Memfd(1, 0));
  }
  Next();
  EXPECT_EQ(cache_->Readoption().readopted, 1u);
  EXPECT_EQ(cache_->Readoption().not_readopted, 30u);
  EXPECT_EQ(cache_->Readoption().failures.size(), ReadoptionSnapshot::kMostFailures);
}

TEST_F(HostileStoreTest, NoCard) {
  fds_.Remove(NameOf("card"));
  ExpectRefused("it has no card");
}

TEST_F(HostileStoreTest, SeveralCards) {
  Card::Made made = Card::Make("m", "another").value();
  fds_.Store(NameOf("card"), made.fd);
  ExpectRefused("several cards");
}

TEST_F(HostileStoreTest, ACardThatIsNone) {
  fds_.Replace(NameOf("card"), Memfd(1, 0));
  ExpectRefused("its card: ");
}

TEST_F(HostileStoreTest, ACardOfGarbage) {
  fds_.Replace(NameOf("card"), Card::Make("m", "\xff\xff\xff").value().fd);
  ExpectRefused("malformed");
}

TEST_F(HostileStoreTest, MissingMemory) {
  fds_.Remove(NameOf("weights"));
  ExpectRefused("its weights: not there");
}

TEST_F(HostileStoreTest, MissingIndex) {
  fds_.Remove(NameOf("index"));
  ExpectRefused("its index: not there");
}

TEST_F(HostileStoreTest, OtherMemoryThanTheCards) {
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  fds_.Replace(NameOf("weights"), Memfd(4, kSeals));
  ExpectRefused("not the memory that its card names");
}

TEST_F(HostileStoreTest, UnsealedMemory) {
  Fd unsealed = Memfd(4, F_SEAL_SHRINK);
  Rewrite([&](CardFacts& facts) { facts.weights->id = *host::MemoryIdOf(unsealed); });
  fds_.Replace(NameOf("weights"), std::move(unsealed));
  ExpectRefused("not sealed");
}

TEST_F(HostileStoreTest, ShorterMemory) {
  Rewrite([](CardFacts& facts) { facts.weights->bytes += kPageBytes; });
  ExpectRefused("bytes long");
}

TEST_F(HostileStoreTest, MoreThanAnyMachineHas) {
  Rewrite([](CardFacts& facts) { facts.weights->bytes = UINT64_MAX; });
  ExpectRefused("bytes long");
}

TEST_F(HostileStoreTest, TheWrongDigest) {
  Rewrite([](CardFacts& facts) { facts.encoded_index_sha256[0] ^= 1; });
  ExpectRefused("digest of its index is wrong");
}

TEST_F(HostileStoreTest, AnIndexOfAnotherRevision) {
  Rewrite([](CardFacts& facts) { facts.index.revision = fakes::MakeRevision(2); });
  ExpectRefused("of another segment");
}

TEST_F(HostileStoreTest, AStateThatIsNone) {
  Rewrite([](CardFacts& facts) { facts.headers.at(0).sha256 = "short"; });
  ExpectRefused("SHA-256");
}

TEST_F(HostileStoreTest, MoreThanItsPartsIsDroppedAndTheModelServed) {
  std::string files = NameOf("weights");
  files.replace(files.size() - 7, 7, "files");
  fds_.Store(files, Memfd(1, F_SEAL_SEAL));
  Next();
  EXPECT_TRUE(IsResident("m"));
  EXPECT_EQ(fds_.Names().size(), 3u);
}

TEST_F(HostileStoreTest, MemoryThatIsMappedAndRefusedIsCharged) {
  const Fd mapped = fds_.Find(NameOf("weights")).ReopenReadOnly().value();
  Rewrite([](CardFacts& facts) { facts.encoded_index_sha256[0] ^= 1; });
  Next();
  EXPECT_FALSE(IsResident("m"));
  AwaitResidentPages(0);
  EXPECT_EQ(cache_->Usage().draining, 4 * kPageBytes);
}

}  // namespace
}  // namespace weightd::cache
