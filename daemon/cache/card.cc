#include "daemon/cache/card.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/host/kept_memory.h"
#include "daemon/host/memfd.h"
#include "daemon/source/checksum.h"

namespace weightd::cache {
namespace {

constexpr char kMagic[8] = {'w', 'd', '-', 'c', 'a', 'r', 'd', '\n'};
constexpr size_t kDigestBytes = 32;
constexpr size_t kHolderBytes = 3072;

// Whole numbers, whatever moment the writer dies at.
template <typename T>
T Read(T& number) {
  return std::atomic_ref<T>(number).load(std::memory_order_acquire);
}
template <typename T>
void Write(T& number, T value) {
  std::atomic_ref<T>(number).store(value, std::memory_order_release);
}

absl::Time PastTime(int64_t micros) {
  return std::min(absl::FromUnixMicros(std::max<int64_t>(micros, 0)), absl::Now());
}

uint32_t StrictnessOf(pipeline::VerifyPolicy policy) {
  switch (policy) {
    case pipeline::VerifyPolicy::kNever:
      return 1;
    case pipeline::VerifyPolicy::kFast:
      return 2;
    case pipeline::VerifyPolicy::kFull:
      break;
  }
  return 3;
}

absl::Status Refused(absl::string_view why) { return Error(Reason::kVerificationFailed, why); }

}  // namespace

struct Card::Page {
  char magic[sizeof(kMagic)];
  uint32_t version;
  // Strictness, from 1 on; 0: not said.
  uint32_t verified_as;
  uint64_t body_bytes;
  char body_sha256[kDigestBytes];
  // These change.
  uint64_t rank;
  // Of who wants it pinned: 1 << Pinner.
  uint64_t pins;
  uint64_t uses;
  // Microseconds since 1970.
  int64_t last_used_at;
  int64_t checked_at;
  // Names, a newline after each; grows behind what counts, which then grows, too.
  uint64_t holder_bytes;
  char holders[kHolderBytes];
};

absl::StatusOr<Card::Made> Card::Make(absl::string_view label, absl::string_view body) {
  static_assert(sizeof(Page) <= kPageBytes);
  if (body.size() > kMostBodyBytes) {
    return Error(Reason::kUnsupported, absl::StrCat("a card of ", body.size(), " bytes; at most ",
                                                    kMostBodyBytes, " are kept"));
  }
  const std::string digest = source::HashOf(source::ChecksumKind::kSha256, body);
  ASSIGN_OR_RETURN(Fd fd, host::CreateMemfd(absl::StrCat(label, " card")));
  const uint64_t bytes = AlignUp(kPageBytes + body.size(), kPageBytes);
  if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return ErrnoError(errno, "make a card");
  }
  {
    ASSIGN_OR_RETURN(const Mapping whole,
                     Mapping::Map(fd.get(), bytes, Mapping::Access::kSharedWritable));
    memcpy(whole.data() + kPageBytes, body.data(), body.size());
  }
  ASSIGN_OR_RETURN(Mapping mapping,
                   Mapping::Map(fd.get(), kPageBytes, Mapping::Access::kSharedWritable));
  std::unique_ptr<Card> card(new Card(std::move(mapping)));
  Page& page = card->page();
  memcpy(page.magic, kMagic, sizeof(kMagic));
  page.version = kVersion;
  page.body_bytes = body.size();
  memcpy(page.body_sha256, digest.data(), kDigestBytes);
  return Made{.card = std::move(card), .fd = std::move(fd)};
}

absl::StatusOr<Card::Found> Card::Open(const Fd& fd) {
  ASSIGN_OR_RETURN(const uint64_t bytes, host::CheckWritable(fd, kPageBytes + kMostBodyBytes));
  if (bytes < kPageBytes) {
    return Refused("too short for a card");
  }
  ASSIGN_OR_RETURN(Mapping mapping,
                   Mapping::Map(fd.get(), kPageBytes, Mapping::Access::kSharedWritable));
  std::unique_ptr<Card> card(new Card(std::move(mapping)));
  // A copy: somebody else may have it mapped.
  Page page;
  memcpy(&page, &card->page(), sizeof(page));
  if (memcmp(page.magic, kMagic, sizeof(kMagic)) != 0) {
    return Refused("no card");
  }
  if (page.version != kVersion) {
    return Refused(
        absl::StrCat("a card of version ", page.version, "; this is version ", kVersion));
  }
  if (page.body_bytes > bytes - kPageBytes ||
      AlignUp(kPageBytes + page.body_bytes, kPageBytes) != bytes) {
    return Refused("a card of another length than it says");
  }
  std::string body(page.body_bytes, '\0');
  const ssize_t got = pread(fd.get(), body.data(), body.size(), kPageBytes);
  if (got != static_cast<ssize_t>(body.size()) ||
      source::HashOf(source::ChecksumKind::kSha256, body) !=
          absl::string_view(page.body_sha256, kDigestBytes)) {
    return Refused("a card whose digest is wrong");
  }
  return Found{.card = std::move(card), .body = std::move(body)};
}

uint64_t Card::rank() const { return Read(page().rank); }
void Card::SetRank(uint64_t rank) { Write(page().rank, rank); }

bool Card::pinned_by(Pinner pinner) const {
  return (Read(page().pins) >> static_cast<int>(pinner) & 1) != 0;
}
void Card::SetPinned(Pinner pinner, bool pinned) {
  const uint64_t bit = uint64_t{1} << static_cast<int>(pinner);
  const uint64_t pins = Read(page().pins);
  Write(page().pins, pinned ? pins | bit : pins & ~bit);
}

pipeline::VerifyPolicy Card::verified_as() const {
  const uint32_t said = Read(page().verified_as);
  for (const pipeline::VerifyPolicy policy :
       {pipeline::VerifyPolicy::kNever, pipeline::VerifyPolicy::kFull}) {
    if (said == StrictnessOf(policy)) {
      return policy;
    }
  }
  return pipeline::VerifyPolicy::kFast;
}
void Card::SetVerifiedAs(pipeline::VerifyPolicy policy) {
  Write(page().verified_as, StrictnessOf(policy));
}

bool IsAsStrict(pipeline::VerifyPolicy one, pipeline::VerifyPolicy other) {
  return StrictnessOf(one) >= StrictnessOf(other);
}

uint64_t Card::uses() const { return Read(page().uses); }
absl::Time Card::last_used_at() const { return PastTime(Read(page().last_used_at)); }
void Card::SetUsed(uint64_t uses, absl::Time last) {
  Write(page().uses, uses);
  Write(page().last_used_at, absl::ToUnixMicros(last));
}

absl::Time Card::checked_at() const { return PastTime(Read(page().checked_at)); }
void Card::SetCheckedAt(absl::Time time) { Write(page().checked_at, absl::ToUnixMicros(time)); }

std::vector<std::string> Card::holders() const {
  const uint64_t bytes = std::min<uint64_t>(Read(page().holder_bytes), kHolderBytes);
  const std::string names(page().holders, bytes);
  return absl::StrSplit(names, '\n', absl::SkipEmpty());
}

void Card::AddHolder(absl::string_view listener) {
  if (listener == last_holder_) {
    return;
  }
  last_holder_ = std::string(listener);
  const std::vector<std::string> known = holders();
  const uint64_t bytes = std::min<uint64_t>(Read(page().holder_bytes), kHolderBytes);
  if (std::find(known.begin(), known.end(), listener) != known.end() ||
      listener.size() + 1 > kHolderBytes - bytes) {
    return;
  }
  memcpy(page().holders + bytes, listener.data(), listener.size());
  page().holders[bytes + listener.size()] = '\n';
  Write(page().holder_bytes, bytes + listener.size() + 1);
}

}  // namespace weightd::cache
