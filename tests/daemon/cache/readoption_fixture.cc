#include "tests/daemon/cache/readoption_fixture.h"

#include <gtest/gtest.h>

#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/cache/card.h"
#include "daemon/pipeline/device_layout.h"
#include "daemon/service/card_codec.h"
#include "tests/fakes/fake_loader.h"

namespace weightd::cache {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);

}  // namespace

void ReadoptionTest::Next(uint64_t budget, CacheOptions options) {
  if (cache_ != nullptr) {
    Stop();
  }
  tier_.reset();
  options.fd_store = &fds_;
  options.encode_card = service::EncodeCard;
  options.decode_card = service::DecodeCard;
  options.decode_index = [this](absl::string_view encoded) { return Decode(encoded); };
  Start(budget, std::move(options));
  cache_->Readopt(fds_.TakeBack());
}

void ReadoptionTest::Put(const std::string& name, uint64_t pages, int revision) {
  CacheTest::Put(name, pages, revision);
  pages_[revision] = pages;
}

absl::StatusOr<pipeline::ModelIndex> ReadoptionTest::Decode(absl::string_view encoded) const {
  const auto pages = pages_.find(encoded[0]);
  if (pages == pages_.end()) {
    return Error(Reason::kVerificationFailed, "the fake knows no such index");
  }
  pipeline::ModelIndex index;
  index.revision = fakes::MakeRevision(encoded[0]);
  index.segment_bytes = pages->second * kPageBytes;
  index.pieces.push_back({.name = "weight",
                          .torch_type = {},
                          .shape = {index.segment_bytes},
                          .nbytes = index.segment_bytes});
  pipeline::LayOutOnDevice(index);
  return index;
}

void ReadoptionTest::AwaitStored(size_t count) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (fds_.Names().size() != count) {
    ASSERT_LT(absl::Now(), deadline) << fds_.Names().size() << " descriptors";
    std::this_thread::yield();
  }
}

void ReadoptionTest::AwaitDraining(uint64_t pages) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (cache_->Usage().draining != pages * kPageBytes) {
    ASSERT_LT(absl::Now(), deadline) << cache_->Usage().draining << " bytes";
    std::this_thread::yield();
  }
}

std::string ReadoptionTest::Complaint() {
  EXPECT_EQ(trail_->Count(EventKind::kNotReadopted), 1);
  return std::string(trail_->Await(EventKind::kNotReadopted).error.message());
}

std::string ReadoptionTest::NameOf(const std::string& part) {
  const auto names = fds_.NamesOf("." + part);
  EXPECT_EQ(names.size(), 1u);
  return names.at(0);
}

void ReadoptionTest::Rewrite(const std::function<void(CardFacts&)>& change) {
  const std::string name = NameOf("card");
  const Card::Found found = Card::Open(fds_.Find(name)).value();
  CardFacts facts = service::DecodeCard(found.body).value();
  change(facts);
  Card::Made made = Card::Make("m", service::EncodeCard(facts)).value();
  made.card->SetRank(found.card->rank());
  made.card->SetVerifiedAs(found.card->verified_as());
  fds_.Replace(name, std::move(made.fd));
}

}  // namespace weightd::cache
