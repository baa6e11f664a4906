#ifndef WEIGHTD_DAEMON_SOURCE_SOURCE_H_
#define WEIGHTD_DAEMON_SOURCE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/checksum.h"
#include "daemon/source/trail.h"

namespace weightd::source {

// Whose bytes are not for who asks, whatever leads there. Thread-safe; asked while others hold
// locks, so it takes none that are held while others are waited for.
class Denial {
 public:
  virtual ~Denial() = default;
  // Whether any of these (Uri::Redacted) is denied.
  virtual bool Covers(absl::Span<const std::string> places) const = 0;
};

// The one answer for what is forbidden and for what nobody knows, so that neither can be told from
// the other.
absl::Status NotAllowed();

// How far a read may reach, by who asked for it.
struct ReadPolicy {
  // file: any path the daemon may read, not only those below the configured roots.
  bool any_path = false;
  // http: loopback, link-local and metadata addresses too, not only public and private ones and the
  // allowed networks.
  bool any_address = false;
  // Objects without a strong validator: their bytes can't be pinned to one version.
  bool unpinned = false;
  // What it may not bring, redirects included; null: nothing of the kind.
  std::shared_ptr<const Denial> denied = nullptr;
};

// One version of one object, as Stat found it. Reads are pinned to it.
struct ObjectVersion {
  Uri uri;
  uint64_t size = 0;
  // Identifies the version: an ETag, or size, mtime, ctime and inode of a local file. Opaque; equal
  // means same bytes.
  std::string validator;
  // Whether `validator` proves that two reads see the same bytes.
  bool strong = false;
  // As the server gave it; empty if it gave none.
  std::string last_modified;
  // Whether parts of it can be asked for. If not, a read transfers it from its first byte.
  bool ranges = true;
  // Of sources that follow redirects, else null. Reads of this version add to it.
  std::shared_ptr<Trail> trail = nullptr;
};

// NotAllowed() if `policy` denies one of these places (Uri::Redacted).
absl::Status CheckPlaces(absl::Span<const std::string> places, const ReadPolicy& policy);

// NotAllowed() if `policy` denies one of these objects, or a place that any of their bytes came
// from: for bytes that others have read.
absl::Status CheckOrigins(absl::Span<const ObjectVersion* const> objects, const ReadPolicy& policy);

// Bytes wanted, and where they go. `destination` has range.size() bytes, stays valid until Read
// returns, and is written by several threads (each byte by one).
struct ReadRequest {
  const ObjectVersion* object = nullptr;
  ByteRange range;
  std::byte* destination = nullptr;
};

// INVALID_ARGUMENT for a request of bytes that its object does not have.
absl::Status CheckRanges(absl::Span<const ReadRequest> requests);

// Told of progress, and asked, from any thread of the source; returns quickly and takes no lock
// that a caller of Read holds.
struct ReadObserver {
  // Bytes that arrived since the last call (never counted twice, also when a request is retried).
  std::function<void(uint64_t bytes)> on_bytes = [](uint64_t) {};
  // All bytes of requests[index] are in place.
  std::function<void(size_t index)> on_request_done = [](size_t) {};
  // Whether somebody waits for the bytes. May change while the read runs; where reads share a
  // limit, those that nobody waits for fall back.
  std::function<bool()> awaited = [] { return true; };
};

// A kind of place that bytes come from. Thread-safe; several reads may run at once.
class Source {
 public:
  virtual ~Source() = default;

  // Finds the current version of an object. NOT_FOUND (kModelNotFound) if there is none.
  virtual absl::StatusOr<ObjectVersion> Stat(const Uri& uri, const ReadPolicy& policy,
                                             Cancellation& cancellation) = 0;

  // Names of the files directly in a folder, sorted; also those that no Uri can name, and links
  // that lead nowhere: whoever needs them finds out. NOT_FOUND (kModelNotFound) if the source knows
  // that there is no such place. UNIMPLEMENTED (kUnsupported) where a source can't list.
  virtual absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const ReadPolicy& policy,
                                                        Cancellation& cancellation) = 0;

  // Whether reads copy bytes to their place (from a socket, say), and so bring the pages with them.
  // Otherwise a device writes there, and waits for pages that are not there yet.
  virtual bool copies() const = 0;

  // What the place itself says the bytes of this version are; empty if it says nothing, or nothing
  // that can be used. Of composites whose parts seem to be of one size, as nearly all are, only the
  // first part is asked for unless `part_sizes` is kAsked. kSourceChanged as Read.
  enum class PartSizes { kInferred, kAsked };
  virtual absl::StatusOr<std::vector<Checksum>> Checksums(const ObjectVersion&, PartSizes,
                                                          const ReadPolicy&, Cancellation&) {
    return std::vector<Checksum>();
  }

  // Reads all of `requests`, in parallel and in any order, and returns when every byte is in place
  // or no byte will be written any more: after the return, whatever it is, nothing of the source
  // touches a destination. Requests may be of several objects of this source; each is retried by
  // the source's own rules. An object that is no longer the version given is ABORTED
  // (kSourceChanged). A cancellation is noticed within 100 ms and its status returned.
  virtual absl::Status Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                            const ReadObserver& observer, Cancellation& cancellation) = 0;

  // Told that bytes of some of these were not what they have to be. A source that has bytes from
  // several places looks which of them brought damaged ones, and reads no more there. Whether
  // another Read may bring others.
  virtual bool Distrust(absl::Span<const ObjectVersion* const>, const ReadPolicy&, Cancellation&) {
    return false;
  }
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_SOURCE_H_
