#include "daemon/cache/shelf.h"

#include <cstdint>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "common/uptime.h"
#include "daemon/host/kept_memory.h"
#include "daemon/pipeline/digests.h"
#include "daemon/source/checksum.h"

namespace weightd::cache {
namespace {

// How long who needs memory waits for the keeper, and how long nobody does once it was too slow.
constexpr absl::Duration kSettlePatience = absl::Seconds(1);
constexpr absl::Duration kSilence = absl::Seconds(10);
// Smaller cards belong to the daemon's own memory, not to the budget.
constexpr uint64_t kUncountedBytes = 1 << 20;

std::string NewPlace(absl::string_view mark) {
  std::random_device random;
  std::string place(mark);
  while (place.size() < kPlaceDigits) {
    absl::StrAppend(&place, absl::Hex(static_cast<uint32_t>(random()), absl::kZeroPad8));
  }
  place.resize(kPlaceDigits);
  return place;
}

absl::StatusOr<KeptMemory> MemoryOf(const host::HostSegment& segment, uint64_t bytes) {
  ASSIGN_OR_RETURN(const host::MemoryId id, host::MemoryIdOf(segment.kept()));
  return KeptMemory{.id = id, .bytes = bytes};
}

absl::StatusOr<CardFacts> FactsOf(const pipeline::ResidentModel& model,
                                  const source::ReadPolicy& policy, absl::Time now) {
  CardFacts facts;
  facts.index.uri = model.index.uri;
  facts.index.revision = model.index.revision;
  facts.index.files = model.index.files;
  facts.index.index_file = model.index.index_file;
  facts.index.small_files = model.index.small_files;
  facts.index.extents = model.index.extents;
  facts.index.pinned_to_version = model.index.pinned_to_version;
  facts.index.verified = model.index.verified;
  facts.index.tensor_proof = model.index.tensor_proof;
  facts.headers = model.digests->SaveHeaders();
  facts.policy = policy;
  facts.loaded_at = now;
  if (model.weights != nullptr) {
    ASSIGN_OR_RETURN(facts.weights, MemoryOf(*model.weights, model.weights->size()));
  }
  ASSIGN_OR_RETURN(facts.encoded_index, MemoryOf(*model.encoded_index, model.encoded_index_bytes));
  if (model.small_files != nullptr) {
    ASSIGN_OR_RETURN(facts.small_files, MemoryOf(*model.small_files, model.small_file_bytes));
  }
  const auto encoded = model.encoded_index->bytes().first(model.encoded_index_bytes);
  facts.encoded_index_sha256 =
      source::HashOf(source::ChecksumKind::kSha256,
                     {reinterpret_cast<const char*>(encoded.data()), encoded.size()});
  return facts;
}

}  // namespace

// One model's place in the store. Held by its segments, each of which takes its own descriptor out,
// and by whoever may keep copies there; the last one takes the card out.
class Shelf::Place {
 public:
  Place(std::shared_ptr<Store> store, std::string name, std::string model)
      : store_(std::move(store)), name_(std::move(name)), model_(std::move(model)) {}
  ~Place() { Drop(Part::kCard); }
  Place(const Place&) = delete;

  const std::string& name() const { return name_; }
  void Put(Part part, const Fd& fd) { store_->Put(StoredName{name_, part}.ToString(), fd, model_); }
  void Drop(Part part) { store_->Drop(StoredName{name_, part}.ToString()); }
  void PutCopy(const GpuId& gpu, const Fd& fd) {
    store_->Put(StoredCopyName{name_, gpu}.ToString(), fd, model_);
  }
  void DropCopy(const GpuId& gpu) { store_->Drop(StoredCopyName{name_, gpu}.ToString()); }
  // Takes what the card is charged.
  void Charge(host::Reservation card) { card_memory_ = std::move(card); }

 private:
  const std::shared_ptr<Store> store_;
  const std::string name_;
  const std::string model_;
  host::Reservation card_memory_;
};

Shelf::Shelf(fd_store::FdStore* store, std::shared_ptr<host::HostTier> tier, EncodeCard encode_card,
             std::string mark)
    : tier_(std::move(tier)),
      encode_card_(std::move(encode_card)),
      mark_(std::move(mark)),
      store_(std::make_shared<Store>()) {
  absl::MutexLock lock(&store_->mutex);
  store_->store = store;
}

void Shelf::Store::Put(absl::string_view name, const Fd& fd, absl::string_view model) {
  absl::MutexLock lock(&mutex);
  if (store != nullptr) {
    store->Store(name, fd, model);
  }
}

void Shelf::Store::Drop(absl::string_view name) {
  absl::MutexLock lock(&mutex);
  if (store != nullptr) {
    store->Remove(name);
  }
}

void Shelf::Settle() {
  fd_store::FdStore* store = nullptr;
  {
    absl::MutexLock lock(&store_->mutex);
    store = Uptime() < store_->silent_until ? nullptr : store_->store;
  }
  if (store != nullptr && !store->Flush(absl::Now() + kSettlePatience)) {
    absl::MutexLock lock(&store_->mutex);
    store_->silent_until = Uptime() + kSilence;
  }
}

bool Shelf::Flush(absl::Time deadline) {
  fd_store::FdStore* store = nullptr;
  {
    absl::MutexLock lock(&store_->mutex);
    store = store_->store;
  }
  return store != nullptr && store->Flush(deadline);
}

fd_store::StoredNames Shelf::Confirmed() const {
  absl::MutexLock lock(&store_->mutex);
  return store_->store != nullptr ? store_->store->Confirmed() : fd_store::StoredNames();
}

void Shelf::Close() {
  absl::MutexLock lock(&store_->mutex);
  store_->store = nullptr;
}

void Shelf::Drop(absl::string_view stored_name) { store_->Drop(stored_name); }

Shelf::Kept Shelf::PlaceOf(absl::string_view place, std::string model) {
  Kept kept;
  kept.place_ = std::make_shared<Place>(store_, std::string(place), std::move(model));
  return kept;
}

void Shelf::Kept::KeepCard(const Fd& card) { place_->Put(Part::kCard, card); }

void Shelf::Kept::Keep(Part part, host::HostSegment& segment) {
  place_->Put(part, segment.kept());
  segment.TieTo(
      std::shared_ptr<void>(nullptr, [place = place_, part](void*) { place->Drop(part); }));
}

void Shelf::Kept::Drop(Part part) { place_->Drop(part); }

std::shared_ptr<void> Shelf::Kept::KeepCopy(const GpuId& gpu, const Fd& exported) const {
  if (place_ == nullptr) {
    return nullptr;
  }
  place_->PutCopy(gpu, exported);
  return HoldCopy(gpu);
}

std::shared_ptr<void> Shelf::Kept::HoldCopy(const GpuId& gpu) const {
  // Whoever holds it can tell from the pointer that it does.
  return std::shared_ptr<void>(place_.get(),
                               [place = place_, gpu](void*) { place->DropCopy(gpu); });
}

void Shelf::Kept::DropCopy(const GpuId& gpu) { place_->DropCopy(gpu); }

bool Shelf::Kept::IsWholeIn(const fd_store::StoredNames& stored,
                            const pipeline::ResidentModel& model) const {
  if (place_ == nullptr) {
    return false;
  }
  const auto has = [&](Part part) {
    return stored.contains(StoredName{place_->name(), part}.ToString());
  };
  if (!has(Part::kCard) || !has(Part::kIndex) ||
      (model.small_files != nullptr && !has(Part::kSmallFiles))) {
    return false;
  }
  if (model.weights != nullptr) {
    return has(Part::kWeights);
  }
  const std::string copies = StoredCopyName::PrefixOf(place_->name());
  const auto copy = stored.lower_bound(copies);
  return copy != stored.end() && absl::StartsWith(*copy, copies);
}

absl::StatusOr<Shelf::Shelved> Shelf::Keep(const pipeline::ResidentModel& model,
                                           const source::ReadPolicy& policy,
                                           pipeline::VerifyPolicy verified_as, absl::Time now) {
  ASSIGN_OR_RETURN(const CardFacts facts, FactsOf(model, policy, now));
  const std::string body = encode_card_(facts);
  host::Reservation charged;
  if (body.size() > kUncountedBytes) {
    ASSIGN_OR_RETURN(charged, tier_->Reserve(body.size() + kPageBytes));
    charged.Settle();
  }
  ASSIGN_OR_RETURN(Card::Made made,
                   Card::Make(pipeline::SegmentLabel(model.index.uri, model.index.revision), body));
  made.card->SetVerifiedAs(verified_as);
  Kept kept = PlaceOf(NewPlace(mark_), model.index.uri.Redacted());
  kept.place_->Charge(std::move(charged));
  kept.KeepCard(made.fd);
  if (model.weights != nullptr) {
    kept.Keep(Part::kWeights, *model.weights);
  }
  kept.Keep(Part::kIndex, *model.encoded_index);
  if (model.small_files != nullptr) {
    kept.Keep(Part::kSmallFiles, *model.small_files);
  }
  return Shelved{.card = std::move(made.card), .place = std::move(kept)};
}

}  // namespace weightd::cache
