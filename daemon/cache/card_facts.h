#ifndef WEIGHTD_DAEMON_CACHE_CARD_FACTS_H_
#define WEIGHTD_DAEMON_CACHE_CARD_FACTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/host/kept_memory.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/source.h"

namespace weightd::cache {

// One of a model's memfds.
struct KeptMemory {
  host::MemoryId id;
  // That count; the memfd is whole pages.
  uint64_t bytes = 0;

  friend bool operator==(const KeptMemory&, const KeptMemory&) = default;
};

// What a model's card says of it that never changes.
struct CardFacts {
  // Without pieces, metadata and sizes of segments, which the encoded index has.
  pipeline::ModelIndex index;
  // Of the files, for their digests.
  std::vector<pipeline::Digests::SavedHeader> headers;
  // How its source may be asked for news.
  source::ReadPolicy policy;
  absl::Time loaded_at;
  // None: they are only on GPUs.
  std::optional<KeptMemory> weights;
  KeptMemory encoded_index;
  std::optional<KeptMemory> small_files;
  // Raw bytes, of the encoded index's bytes that count.
  std::string encoded_index_sha256;
};

// How facts are written down. Given by whoever knows the format.
using EncodeCard = std::function<std::string(const CardFacts&)>;
// Trusts no byte: what it returns may be used as if this daemon had loaded the model, as far as the
// card alone can tell.
using DecodeCard = std::function<absl::StatusOr<CardFacts>(absl::string_view)>;

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_CARD_FACTS_H_
