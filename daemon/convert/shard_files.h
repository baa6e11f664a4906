#ifndef WEIGHTD_DAEMON_CONVERT_SHARD_FILES_H_
#define WEIGHTD_DAEMON_CONVERT_SHARD_FILES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "daemon/convert/conversion.h"
#include "daemon/convert/shard_writer.h"

namespace weightd::convert {

// The files of an output. Each is made for its first tensor, and is on disk and closed after its
// last one: with tensors that come about in their order few are open at once, however many there
// are. Use it in this order: Plan, Open, then WriterOf and TensorDone for each tensor, FinishEmpty.
// Thread-safe after Open.
class ShardFiles {
 public:
  struct Options {
    OutputFormat format = OutputFormat::kSafetensors;
    // Of the first file.
    std::map<std::string, std::string> metadata = {};
    // Null: not encrypted.
    const Sealing* sealing = nullptr;
  };

  // `shards` and what the options name outlive it.
  ShardFiles(const std::vector<Shard>* shards, Options options)
      : shards_(*shards), options_(std::move(options)) {}

  // Lays each file out. kUnsupported for what the format can't say.
  absl::Status Plan();
  // A shard with a name lies in the folder `path`, which is made; else it is `path`.
  absl::Status Open(std::string path);

  // Valid until TensorDone was called for each tensor of the shard.
  absl::StatusOr<ShardWriter*> WriterOf(size_t shard) ABSL_LOCKS_EXCLUDED(mutex_);
  // One of the shard's tensors is written.
  absl::Status TensorDone(size_t shard) ABSL_LOCKS_EXCLUDED(mutex_);
  // Files of no tensors, which a model may be.
  absl::Status FinishEmpty();

  // After Plan.
  uint64_t file_bytes(size_t shard) const { return file_bytes_[shard]; }

 private:
  struct OpenShard {
    std::unique_ptr<ShardWriter> writer;
    size_t tensors_left = 0;
  };

  absl::StatusOr<std::unique_ptr<ShardWriter>> Make(size_t shard) const;
  absl::StatusOr<std::unique_ptr<ShardWriter>> MakeAndOpen(size_t shard) const;

  const std::vector<Shard>& shards_;
  const Options options_;
  std::vector<uint64_t> file_bytes_;
  std::string path_;
  absl::Mutex mutex_;
  std::map<size_t, OpenShard> open_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::convert

#endif  // WEIGHTD_DAEMON_CONVERT_SHARD_FILES_H_
