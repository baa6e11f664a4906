#ifndef WEIGHTD_TESTS_FAKES_MEMORY_SOURCE_H_
#define WEIGHTD_TESTS_FAKES_MEMORY_SOURCE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/checksum.h"
#include "daemon/source/source.h"

namespace weightd::fakes {

// A source whose objects are strings in memory: no latency, versions that change when told, faults
// on demand, and a gate that stops reads in the middle of the bytes until a test lets them go.
// Keeps the rules of source.h. Thread-safe.
class MemorySource : public source::Source {
 public:
  struct RecordedRead {
    std::string uri;
    ByteRange range;
  };

  // Sets or replaces an object; each call makes a new version with a strong validator.
  void Put(absl::string_view uri, std::string bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // The same with a weak validator.
  void PutUnpinned(absl::string_view uri, std::string bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(absl::string_view uri) ABSL_LOCKS_EXCLUDED(mutex_);

  // Faults of one object, until set to OK. A read fails when it comes to byte `at` of the object.
  void FailStat(absl::string_view uri, absl::Status error) ABSL_LOCKS_EXCLUDED(mutex_);
  void FailRead(absl::string_view uri, uint64_t at, absl::Status error) ABSL_LOCKS_EXCLUDED(mutex_);
  // What Checksums() says of an object, until it is put anew; `inferred` is said first, if it is
  // not empty, to those who let part sizes be inferred.
  void SetChecksums(absl::string_view uri, std::vector<source::Checksum> checksums,
                    std::vector<source::Checksum> inferred = {}) ABSL_LOCKS_EXCLUDED(mutex_);
  // The next `times` reads of byte `at` of an object deliver it with a bit flipped.
  void FlipBit(absl::string_view uri, uint64_t at, int times) ABSL_LOCKS_EXCLUDED(mutex_);
  // Bits are flipped until somebody distrusts an object: then another place has them right.
  void MendWhenDistrusted() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether List works (HTTP's doesn't).
  void SetCanList(bool can_list) ABSL_LOCKS_EXCLUDED(mutex_);

  // The gate: lets `bytes` more be read, then stops all reads until ReleaseReads or their
  // cancellation.
  void HoldReadsAfter(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  void ReleaseReads() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits, a minute at most, until a read stands at the gate; false if none came.
  [[nodiscard]] bool AwaitHeldRead() ABSL_LOCKS_EXCLUDED(mutex_);

  // What was asked for, in order.
  std::vector<RecordedRead> reads() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<std::string> stats() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Bytes delivered.
  uint64_t bytes_read() const ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<source::ObjectVersion> Stat(const Uri& uri, const source::ReadPolicy& policy,
                                             Cancellation& cancellation) override;
  absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const source::ReadPolicy& policy,
                                                Cancellation& cancellation) override;
  bool copies() const override { return true; }
  absl::StatusOr<std::vector<source::Checksum>> Checksums(const source::ObjectVersion& version,
                                                          PartSizes part_sizes,
                                                          const source::ReadPolicy& policy,
                                                          Cancellation& cancellation) override;
  absl::Status Read(absl::Span<const source::ReadRequest> requests,
                    const source::ReadPolicy& policy, const source::ReadObserver& observer,
                    Cancellation& cancellation) override;
  bool Distrust(absl::Span<const source::ObjectVersion* const> objects,
                const source::ReadPolicy& policy, Cancellation& cancellation) override;

 private:
  struct Object {
    std::string bytes;
    std::string validator;
    bool strong = true;
    std::vector<source::Checksum> checksums = {};
    std::vector<source::Checksum> inferred = {};
  };
  struct Flip {
    uint64_t at = 0;
    int times = 0;
  };
  struct ReadFault {
    uint64_t at = 0;
    absl::Status error;
  };

  void PutVersion(absl::string_view uri, std::string bytes, bool strong);
  // Copies what the gate, faults and the step size let through at once; returns its length.
  absl::StatusOr<uint64_t> ReadStep(const source::ObjectVersion& version, ByteRange range,
                                    std::byte* destination, Cancellation& cancellation);

  mutable absl::Mutex mutex_;
  std::map<std::string, Object> objects_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> stat_faults_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, ReadFault> read_faults_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Flip> flips_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_version_ ABSL_GUARDED_BY(mutex_) = 1;
  bool mends_ ABSL_GUARDED_BY(mutex_) = false;
  bool can_list_ ABSL_GUARDED_BY(mutex_) = true;
  uint64_t allowance_ ABSL_GUARDED_BY(mutex_) = ~uint64_t{0};
  int held_reads_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<RecordedRead> reads_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> stats_ ABSL_GUARDED_BY(mutex_);
  uint64_t bytes_read_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_MEMORY_SOURCE_H_
