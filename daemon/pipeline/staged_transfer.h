#ifndef WEIGHTD_DAEMON_PIPELINE_STAGED_TRANSFER_H_
#define WEIGHTD_DAEMON_PIPELINE_STAGED_TRANSFER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "daemon/host/staging_window.h"
#include "daemon/pipeline/arrivals.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/stream_layout.h"
#include "daemon/pipeline/transfer.h"
#include "daemon/pipeline/uploads.h"

namespace weightd::pipeline {

// All bytes of a load to GPUs, through a window that slides over the model's stream.
//
// The stream is read in batches of a quarter of the window, two of them at a time. The window
// slides over a batch when all of it has come, those who hash and decrypt are through with it
// (Verifier::Through, TensorCheck::Through), and every GPU has taken it. They all go through the
// bytes in the stream's order, so whoever is the furthest behind never waits for a byte that the
// window can't reach: for that it has three batches more than what has to be there at once.
//
// A file that is decrypted is first hashed, as far as somebody says what it has to be: the bytes
// of `hashed_` are those of `arrivals_` that the verifier is through with.
class StagedTransfer {
 public:
  // Whole pages.
  struct Sizes {
    uint64_t window = 0;
    uint64_t batch = 0;
  };
  // `wanted` as in LoaderOptions::staging_bytes; `at_once` is TensorCheck::MostAtOnce().
  static Sizes SizesFor(uint64_t stream_bytes, uint64_t wanted, uint64_t at_once);

  // All outlive it; the uploads have begun, and read from the window, which has its size of
  // `sizes`.
  StagedTransfer(const TransferParts& parts, const StreamLayout& stream,
                 host::StagingWindow& window, Sizes sizes);
  StagedTransfer(const StagedTransfer&) = delete;

  // Returns when all bytes are what they have to be and every GPU that is left has taken them, or
  // nobody touches the window any more, but for uploads that have failed.
  absl::Status Run();

  bool damaged() const { return parts_.verifier.damaged(); }

 private:
  // Chunks that are read together.
  struct Batch {
    // Half-open, by index.
    size_t first = 0;
    size_t last = 0;
    // Of the stream.
    ByteRange bytes;
  };

  std::vector<Batch> Batches() const;
  // One of the reading threads: batches that no other has taken, each when the window has room.
  void ReadBatches();
  absl::Status ReadBatch(const Batch& batch);
  // Starts those who look at the bytes.
  void StartLooking();
  void OnChunk(size_t index) ABSL_LOCKS_EXCLUDED(mutex_);
  // Tells `hashed_` of the chunks that the verifier is through with.
  void PassHashed() ABSL_LOCKS_EXCLUDED(mutex_);
  // Lets GPUs take bytes of the stream.
  void Copy(ByteRange stream) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits for each batch, and slides over it.
  absl::Status SlideOver();
  // Whether it has come, and only GPUs may still need it.
  bool Through(const Batch& batch) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of bytes before `end`.
  absl::Status AwaitCopies(uint64_t end) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SendZeros();
  // Waits for news that came after `seen`; false if stopped.
  bool AwaitNews(uint32_t seen);
  void TellNews();

  const TransferParts& parts_;
  const StreamLayout& stream_;
  host::StagingWindow& window_;
  const uint64_t batch_bytes_;
  const std::vector<Extent> chunks_;
  const std::vector<Batch> batches_;

  Cancellation transfer_;
  Arrivals arrivals_;
  Arrivals hashed_;
  // Whether `hashed_` is what the tensors are told of.
  const bool files_first_;

  // Counts what those who wait wait for: bytes that came, looks that were taken, slides.
  std::atomic<uint32_t> news_ = 0;
  std::atomic<size_t> next_batch_ = 0;
  // As far as the window reaches; its own is the sliding thread's.
  std::atomic<uint64_t> reach_;

  mutable absl::Mutex mutex_;
  // By chunk.
  std::vector<bool> there_ ABSL_GUARDED_BY(mutex_);
  size_t next_hashed_ ABSL_GUARDED_BY(mutex_) = 0;
  // On their way, by where their bytes begin in the stream.
  std::multimap<uint64_t, Uploads::Copies> copies_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_STAGED_TRANSFER_H_
