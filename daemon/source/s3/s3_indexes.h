#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_INDEXES_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_INDEXES_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/s3/s3_client.h"
#include "daemon/source/s3/s3_upload.h"

// What readers who go by an index would see of an upload.

namespace weightd::source {

// Weights of an upload, and what will become of what the store has in their place.
struct PushedWeights {
  Uri object;
  bool are_sent = false;
  // They are sent, and other weights are there, or may be.
  bool replace_others = false;
};

// Which objects an index names.
class IndexedObjects {
 public:
  explicit IndexedObjects(const std::vector<Uri>& names) { Add(names); }
  // Of an index that nobody can read, or whose readers go by what lies in its folder: all that an
  // index in that place may name.
  void AddAllBelow(const Uri& index);
  void Add(const std::vector<Uri>& names);

  bool Contains(const Uri& object) const;

 private:
  absl::flat_hash_set<std::string> paths_;
  // Of a folder, with its slash; empty: none.
  std::string below_;
};

// What an index in the store names: nothing if it is not there. False of `known` if we may not read
// it, or can't.
struct StoredNames {
  bool known = true;
  std::vector<Uri> names = {};
};
absl::StatusOr<StoredNames> NamesIn(const Uri& index, const StoredIndexes& stored, S3Client& client,
                                    Cancellation& cancellation);

// Whether readers could take some of these weights together with those that were there before. If
// the index `is_first`, its readers could also see some before the others.
bool CouldBeMixed(const IndexedObjects& indexed, absl::Span<const PushedWeights> weights,
                  bool is_first);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_INDEXES_H_
