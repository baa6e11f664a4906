#ifndef WEIGHTD_DAEMON_PIPELINE_VERIFY_H_
#define WEIGHTD_DAEMON_PIPELINE_VERIFY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "daemon/pipeline/arrivals.h"
#include "daemon/pipeline/job_queue.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/checksum.h"
#include "daemon/source/source.h"

namespace weightd::pipeline {

// What somebody says the bytes of a file are.
struct Expected {
  // Index into the model's files.
  uint32_t file = 0;
  source::Checksum checksum;
  Authority by = Authority::kStore;
};

// More parts than this in a model are refused: each one takes memory outside the budget. In parts
// of 8 MiB that is 2 TiB.
inline constexpr size_t kMostParts = size_t{1} << 18;

// What the source says of each of `files`. kSourceProtocol if that doesn't fit the files, or if it
// is of more than kMostParts parts.
absl::StatusOr<std::vector<Expected>> AskChecksums(source::Source& source,
                                                   absl::Span<const ModelFile> files,
                                                   source::Source::PartSizes part_sizes,
                                                   const source::ReadPolicy& policy,
                                                   Cancellation& cancellation);

// Compares a model's bytes with what they should be while they arrive, on threads of its own: each
// sum is carried on as far as bytes are there without a gap, each byte is hashed once for each kind
// of checksum. Use it in this order: constructor, TakeHeader for every file, Start, Finish.
class Verifier {
 public:
  // `files` outlive it. `part_sizes` is how those of `expected` were found out.
  Verifier(absl::Span<const ModelFile> files, std::vector<Expected> expected,
           source::Source::PartSizes part_sizes);
  // Stops and waits for the threads.
  ~Verifier();
  Verifier(const Verifier&) = delete;

  // A file's first bytes: those that the layout was made of, wherever else they come to lie.
  void TakeHeader(uint32_t file, absl::string_view bytes);

  // The rest comes to `segment` as `arrivals` tells. A mismatch cancels `transfer`, unless it is in
  // doubt; whoever else does stops `arrivals`. All outlive it. `on_progress` is called when
  // Through() may have changed.
  void Start(Arrivals& arrivals, const std::byte* segment, Cancellation& transfer,
             std::function<void()> on_progress = {});

  // The first byte that it may still look at. Bytes that are let go of as soon as it is through
  // with them never make it wait for ever. From any thread.
  FilePosition Through() const { return queue_.Through(); }

  // When all chunks have come: waits for the sums. kVerificationFailed for the first one found that
  // differs, naming file and kind; `transfer`'s reason if it was cancelled.
  absl::Status Finish();

  // Whether it has anything to compare.
  bool idle() const { return streams_.empty(); }

  // Whether what Finish() found differs from what the store says, not only from a pin.
  bool damaged() const { return damaged_; }
  // Whether all that differs are composites of parts whose sizes were inferred, perhaps wrongly.
  bool in_doubt() const { return damaged_ && !certain_; }

  const std::vector<Expected>& expected() const { return expected_; }
  // What OK from Finish() means.
  std::vector<Verified> Proof() const;

 private:
  // A checksum that is computed, and who expects which value.
  struct Sum {
    uint32_t file = 0;
    source::ChecksumKind kind = source::ChecksumKind::kSha256;
    std::vector<uint64_t> part_sizes;
    std::vector<const Expected*> expected;
    // Of the parts, or of the whole file.
    std::vector<std::string> values;
    std::atomic<size_t> parts_left = 0;
  };
  // Bytes of a file that are hashed in order: a part, or all of it.
  struct Stream {
    Sum* sum = nullptr;
    size_t part = 0;
    // From its first byte to its last: a model may have many streams.
    std::unique_ptr<source::Hasher> hasher;
    // What has not been hashed yet.
    ByteRange rest;
  };

  void Add(const Expected& expected);
  void Update(Stream& stream, absl::Span<const std::byte> bytes);
  // How many sums one file has, at the most.
  size_t MostSums() const;
  void Work(size_t thread);
  // False if stopped.
  bool Hash(size_t thread, Stream& stream);
  void Compare(const Sum& sum);
  void Join();

  const absl::Span<const ModelFile> files_;
  const std::vector<Expected> expected_;
  const source::Source::PartSizes part_sizes_;
  // By file.
  std::multimap<uint32_t, Sum> sums_;
  // In the order in which bytes are wanted from the source.
  std::vector<Stream> streams_;

  Arrivals* arrivals_ = nullptr;
  const std::byte* segment_ = nullptr;
  Cancellation* transfer_ = nullptr;
  std::vector<std::thread> threads_;
  // Of streams_.
  JobQueue queue_;

  std::atomic<bool> damaged_ = false;
  std::atomic<bool> certain_ = false;

  absl::Mutex mutex_;
  absl::Status mismatch_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_VERIFY_H_
