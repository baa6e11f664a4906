#ifndef WEIGHTD_DAEMON_PIPELINE_ARRIVALS_H_
#define WEIGHTD_DAEMON_PIPELINE_ARRIVALS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/byte_range.h"
#include "daemon/pipeline/model.h"

namespace weightd::pipeline {

// Which chunks of a load have come, for the threads that look at their bytes. Takes no lock.
// Thread-safe.
class Arrivals {
 public:
  // `chunks` are ordered as PlanTransfer orders them, and outlive it.
  explicit Arrivals(absl::Span<const Extent> chunks) : chunks_(chunks), there_(chunks.size()) {}

  // The bytes of chunks[index] are in their place.
  void OnChunk(size_t index);
  // Ends all waits.
  void Stop();
  bool stopped() const { return stopped_.load(std::memory_order_acquire); }

  // Waits for the chunk that has this byte of the file, which is one that is read. Null if stopped.
  const Extent* Await(uint32_t file, uint64_t offset);
  // Waits for all of these bytes. False if stopped.
  bool AwaitAll(uint32_t file, ByteRange bytes);

 private:
  size_t ChunkOf(uint32_t file, uint64_t offset) const;

  const absl::Span<const Extent> chunks_;
  std::vector<std::atomic<bool>> there_;
  // Counts what those who wait for a chunk wait for.
  std::atomic<uint32_t> news_ = 0;
  std::atomic<bool> stopped_ = false;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_ARRIVALS_H_
