#include "daemon/cache/card.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/byte_range.h"
#include "common/mapping.h"
#include "common/status.h"
#include "gtest/gtest.h"

namespace weightd::cache {
namespace {

Card::Made Made(absl::string_view body = "what never changes") {
  return Card::Make("m", body).value();
}

// A copy whose bytes from `offset` on are others; as long as it says it is, and sealed so.
Fd Changed(const Fd& card, uint64_t offset, absl::string_view bytes, uint64_t longer = 0,
           int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) {
  const auto size = static_cast<uint64_t>(lseek(card.get(), 0, SEEK_END));
  std::string all(size + longer, '\0');
  EXPECT_EQ(pread(card.get(), all.data(), size, 0), static_cast<ssize_t>(size));
  all.replace(offset, bytes.size(), std::string(bytes));
  Fd copy(memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(pwrite(copy.get(), all.data(), all.size(), 0), static_cast<ssize_t>(all.size()));
  EXPECT_EQ(fcntl(copy.get(), F_ADD_SEALS, seals), 0);
  return copy;
}

void ExpectRefused(const Fd& fd, absl::string_view why) {
  const auto found = Card::Open(fd);
  EXPECT_EQ(ReasonOf(found.status()), Reason::kVerificationFailed);
  EXPECT_TRUE(absl::StrContains(found.status().message(), why)) << found.status();
}

TEST(Card, TellsTheNextDaemonWhatStoodThereLast) {
  const absl::Time now = absl::FromUnixMicros(absl::ToUnixMicros(absl::Now()));
  Card::Made made = Made();
  made.card->SetRank(7);
  made.card->SetPinned(Pinner::kOperator, true);
  made.card->SetPinned(Pinner::kConfig, true);
  made.card->SetPinned(Pinner::kConfig, false);
  made.card->SetUsed(12, now - absl::Seconds(3));
  made.card->SetCheckedAt(now - absl::Seconds(9));
  for (const char* const listener : {"a", "b", "a", "b", "c"}) {
    made.card->AddHolder(listener);
  }
  const Fd kept = made.fd.Duplicate().value();
  made = Made();

  const auto found = Card::Open(kept);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->body, "what never changes");
  EXPECT_EQ(found->card->rank(), 7u);
  EXPECT_TRUE(found->card->pinned_by(Pinner::kOperator));
  EXPECT_FALSE(found->card->pinned_by(Pinner::kConfig));
  EXPECT_EQ(found->card->uses(), 12u);
  EXPECT_EQ(found->card->last_used_at(), now - absl::Seconds(3));
  EXPECT_EQ(found->card->checked_at(), now - absl::Seconds(9));
  EXPECT_EQ(found->card->holders(), (std::vector<std::string>{"a", "b", "c"}));
}

TEST(Card, ANewOneSaysNothingYet) {
  const Card::Made made = Made("");
  const auto found = Card::Open(made.fd);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->body, "");
  EXPECT_EQ(found->card->rank(), 0u);
  EXPECT_FALSE(found->card->pinned_by(Pinner::kOperator));
  EXPECT_EQ(found->card->checked_at(), absl::UnixEpoch());
  EXPECT_TRUE(found->card->holders().empty());
}

TEST(Card, BodiesHaveABound) {
  const std::string body(Card::kMostBodyBytes, 'b');
  EXPECT_EQ(Card::Open(Made(body).fd)->body.size(), body.size());
  EXPECT_EQ(ReasonOf(Card::Make("m", body + "b").status()), Reason::kUnsupported);
}

TEST(Card, RefusesWhatIsNone) {
  const Card::Made made = Made();
  ExpectRefused(Changed(made.fd, 0, "W"), "no card");
  ExpectRefused(Changed(made.fd, 8, std::string(1, 2)), "a card of version 2");
  ExpectRefused(Changed(made.fd, 16, std::string(8, '\xff')), "another length");
  ExpectRefused(Changed(made.fd, 16, std::string(1, '\0')), "another length");
  ExpectRefused(Changed(made.fd, 16, std::string(1, '\1')), "digest is wrong");
  ExpectRefused(Changed(made.fd, 24, std::string(1, '\0')), "digest is wrong");
  ExpectRefused(Changed(made.fd, kPageBytes, "W"), "digest is wrong");
  ExpectRefused(Changed(made.fd, 0, "", kPageBytes), "another length");
  ExpectRefused(Changed(made.fd, 0, "", 0, F_SEAL_SEAL), "length is not sealed");
  ExpectRefused(Fd(open("/dev/zero", O_RDWR)), "no memfd");
  const Fd read_only = made.fd.ReopenReadOnly().value();
  ExpectRefused(read_only, "not opened for writing");
}

TEST(Card, RefusesOneThatIsTooShort) {
  const Fd empty(memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(fcntl(empty.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  ExpectRefused(empty, "too short");
}

TEST(Card, BelievesNoNumber) {
  const Card::Made made = Made();
  const auto page = Mapping::Map(made.fd.get(), kPageBytes, Mapping::Access::kSharedWritable);
  ASSERT_TRUE(page.ok());
  // Magic, version, body and digest take 56 bytes; the rest are what changes.
  memset(page->data() + 56, 0x7f, kPageBytes - 56);
  const auto found = Card::Open(made.fd);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_LE(found->card->last_used_at(), absl::Now());
  EXPECT_LE(found->card->checked_at(), absl::Now());
  EXPECT_LE(found->card->holders()[0].size(), kPageBytes);
  memset(page->data() + 56, 0xff, kPageBytes - 56);
  EXPECT_EQ(found->card->last_used_at(), absl::UnixEpoch());
  EXPECT_LE(found->card->holders()[0].size(), kPageBytes);
  found->card->AddHolder("one more");
}

TEST(Card, RemembersAsManyHoldersAsFit) {
  const Card::Made made = Made();
  for (int i = 0; i < 1000; ++i) {
    made.card->AddHolder(absl::StrCat("listener-", i));
  }
  const auto holders = Card::Open(made.fd)->card->holders();
  EXPECT_GT(holders.size(), 200u);
  EXPECT_EQ(holders.back(), absl::StrCat("listener-", holders.size() - 1));
}

}  // namespace
}  // namespace weightd::cache
