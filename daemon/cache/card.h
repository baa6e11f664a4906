#ifndef WEIGHTD_DAEMON_CACHE_CARD_H_
#define WEIGHTD_DAEMON_CACHE_CARD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/mapping.h"
#include "daemon/cache/holder.h"
#include "daemon/pipeline/model.h"

namespace weightd::cache {

// What a resident model's next daemon finds out about it: a memfd beside the model's own. Its body
// never changes. The rest is written in place, a number at a time, so that a daemon that is killed
// at any moment leaves a whole card.
//
// One page of fixed and of changing numbers, then the body. Whoever reads one believes nothing: the
// body has a digest, and the numbers are brought into their bounds.
//
// Not thread-safe; a reader of another process sees each number as it was or as it is.
class Card {
 public:
  // Of what a card means. Others are refused.
  static constexpr uint32_t kVersion = 1;
  static constexpr uint64_t kMostBodyBytes = 64 << 20;

  struct Made;
  // kUnsupported for a body that is too long. `label` names the memfd in /proc.
  static absl::StatusOr<Made> Make(absl::string_view label, absl::string_view body);

  struct Found;
  // Of one that an earlier daemon made. kVerificationFailed for anything else.
  static absl::StatusOr<Found> Open(const Fd& fd);

  // Of several cards of one model, the highest rank is the current revision's. 0: the model is not
  // granted any more, or not yet.
  uint64_t rank() const;
  void SetRank(uint64_t rank);

  bool pinned_by(Pinner pinner) const;
  void SetPinned(Pinner pinner, bool pinned);

  // Leases that were granted, by any daemon, and when the last use was; no later than now.
  uint64_t uses() const;
  absl::Time last_used_at() const;
  void SetUsed(uint64_t uses, absl::Time last);

  // When its source last said which revision is the newest; no later than now.
  absl::Time checked_at() const;
  void SetCheckedAt(absl::Time time);

  // How closely the load that brought it looked at tensors' checksums, at the least; as by default
  // if the card is of a build that didn't say.
  pipeline::VerifyPolicy verified_as() const;
  void SetVerifiedAs(pipeline::VerifyPolicy policy);

  // Listeners whose clients were given its memory. What doesn't fit is not remembered.
  std::vector<std::string> holders() const;
  void AddHolder(absl::string_view listener);

 private:
  struct Page;
  explicit Card(Mapping mapping) : mapping_(std::move(mapping)) {}
  Page& page() const { return *reinterpret_cast<Page*>(mapping_.data()); }

  Mapping mapping_;
  // The last one that was added: most are added again and again.
  std::string last_holder_;
};

// Whether `one` looks at checksums as closely as `other`, or more so.
bool IsAsStrict(pipeline::VerifyPolicy one, pipeline::VerifyPolicy other);

struct Card::Made {
  std::unique_ptr<Card> card;
  // To be kept beyond our end.
  Fd fd;
};

struct Card::Found {
  std::unique_ptr<Card> card;
  std::string body;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_CARD_H_
