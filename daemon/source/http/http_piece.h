#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PIECE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PIECE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/byte_range.h"
#include "daemon/source/source.h"

namespace weightd::source {

// Counts what has arrived for each request of a Read, and tells its observer. Thread-safe.
class ReadTally {
 public:
  // Both outlive it. Requests without bytes are done at once.
  ReadTally(absl::Span<const ReadRequest> requests, const ReadObserver* observer);

  void Arrived(size_t request, uint64_t bytes);

 private:
  const ReadObserver* const observer_;
  std::vector<std::atomic<uint64_t>> left_;
};

// What one HTTP request brings: a range of an object, and where its parts go.
class Piece {
 public:
  Piece(const ObjectVersion* object, ByteRange range) : object_(object), range_(range) {}

  // Of request number `request`; within range(). In order of their first byte.
  void Add(size_t request, ByteRange range, std::byte* destination) {
    parts_.push_back({request, range, destination});
  }
  // So many bytes more, behind those of range().
  void Append(size_t request, uint64_t bytes, std::byte* destination) {
    Add(request, {range_.end, range_.end + bytes}, destination);
    range_.end += bytes;
  }

  const ObjectVersion& object() const { return *object_; }
  ByteRange range() const { return range_; }
  // What has not arrived yet: where a retry goes on.
  ByteRange rest() const { return {arrived_until_, range_.end}; }
  uint64_t arrived() const { return arrived_until_ - range_.begin; }

  // Takes bytes of the object from `offset` on, contiguous with what came before them or repeating
  // it (repeated bytes are dropped: their reader may be at them already). Bytes past the range are
  // ignored.
  void Take(uint64_t offset, absl::Span<const char> bytes, ReadTally& tally);

  // Where the first bytes of rest() go, as far as that is one place; empty if parts overlap, or if
  // nobody wants them. Took(): that many of them are there.
  absl::Span<std::byte> Space();
  void Took(uint64_t bytes, ReadTally& tally);

 private:
  struct Part {
    size_t request;
    ByteRange range;
    std::byte* destination;
  };

  // Passes by the parts that are complete.
  void CloseParts();

  const ObjectVersion* object_;
  ByteRange range_;
  uint64_t arrived_until_ = range_.begin;
  std::vector<Part> parts_;
  // Parts before this one are complete.
  size_t first_open_part_ = 0;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PIECE_H_
