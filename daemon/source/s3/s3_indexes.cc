#include "daemon/source/s3/s3_indexes.h"

#include <cstddef>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "common/status.h"
#include "daemon/source/s3/s3_objects.h"

namespace weightd::source {

void IndexedObjects::AddAllBelow(const Uri& index) {
  below_ = index.path().substr(0, index.path().rfind('/') + 1);
}

void IndexedObjects::Add(const std::vector<Uri>& names) {
  for (const Uri& name : names) {
    paths_.insert(name.path());
  }
}

bool IndexedObjects::Contains(const Uri& object) const {
  return paths_.contains(object.path()) ||
         (!below_.empty() && absl::StartsWith(object.path(), below_));
}

absl::StatusOr<StoredNames> NamesIn(const Uri& index, const StoredIndexes& stored, S3Client& client,
                                    Cancellation& cancellation) {
  const absl::StatusOr<std::optional<std::string>> bytes =
      GetObject(client, index, stored.most_bytes, cancellation);
  if (SaysNothing(bytes.status())) {
    return StoredNames{.known = false};
  }
  RETURN_IF_ERROR(bytes.status());
  if (!bytes->has_value()) {
    return StoredNames();
  }
  absl::StatusOr<std::vector<Uri>> names = stored.parse(index, **bytes);
  return names.ok() ? StoredNames{.names = *std::move(names)} : StoredNames{.known = false};
}

bool CouldBeMixed(const IndexedObjects& indexed, absl::Span<const PushedWeights> weights,
                  bool is_first) {
  size_t count = 0;
  bool sends = false;
  for (const PushedWeights& one : weights) {
    if (!indexed.Contains(one.object)) {
      continue;
    }
    if (one.replace_others) {
      return true;
    }
    ++count;
    sends = sends || one.are_sent;
  }
  return is_first && sends && count > 1;
}

}  // namespace weightd::source
