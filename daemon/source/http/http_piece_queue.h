#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PIECE_QUEUE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PIECE_QUEUE_H_

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "daemon/source/http/http_exchange.h"
#include "daemon/source/http/http_piece.h"
#include "daemon/source/source.h"

namespace weightd::source {

// The pieces of a Read, in the order of its requests, cut when they are asked for: as large as
// RangeBytes() says, across requests that follow one another in an object; but for objects that
// have no ranges, which are one piece from their first byte to the last that is wanted.
// Thread-safe.
class PieceQueue final : public ExchangeQueue {
 public:
  // `requests` and `tally` outlive it. Pieces have at most `largest` bytes.
  PieceQueue(absl::Span<const ReadRequest> requests, uint64_t largest, ReadTally* tally);

  Exchange* Next(int connections) override;
  bool single() const override { return single_; }

 private:
  struct Cut {
    Cut(Piece cut, ReadTally* tally) : piece(std::move(cut)), read(&piece, tally) {}
    Piece piece;
    PieceRead read;
  };

  // The next piece, of at most `bytes`.
  Piece Take(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const absl::Span<const ReadRequest> requests_;
  const uint64_t largest_;
  ReadTally* const tally_;
  bool single_ = true;
  absl::Mutex mutex_;
  // The request that is being cut, and how much of it is.
  size_t request_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t cut_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t rest_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of objects without ranges.
  std::vector<Piece> whole_ ABSL_GUARDED_BY(mutex_);
  // Where they stay.
  std::deque<Cut> pieces_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PIECE_QUEUE_H_
