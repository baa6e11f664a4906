#ifndef WEIGHTD_DAEMON_PIPELINE_MODEL_H_
#define WEIGHTD_DAEMON_PIPELINE_MODEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/byte_range.h"
#include "common/dtype.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/device/gpus.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/source/checksum.h"
#include "daemon/source/source.h"

namespace weightd::pipeline {

// One weight file of a revision.
struct ModelFile {
  // Relative to the model's folder; the last path segment for a single file.
  std::string name;
  source::ObjectVersion version;
};

// A file beside the weights of a model that is a folder, such as its config or its tokenizer.
struct SmallFile {
  ModelFile file;
  // Counted from the first byte of ResidentModel::small_files.
  uint64_t offset = 0;
  // Not empty: the reason why it is not kept.
  std::string left_out = {};

  // Those that are kept.
  uint64_t bytes() const { return left_out.empty() ? file.version.size : 0; }
};

// Names of the small files that a model was found to have; none: nobody has looked yet.
using KnownSmallFiles = std::optional<std::vector<std::string>>;

// What a model's name stands for right now: the files of one revision, before any weight was read.
struct ResolvedModel {
  Uri uri;
  RevisionId revision;
  // The weight files, sorted by name.
  std::vector<ModelFile> files;
  // The shard index, if that says which files they are.
  std::optional<ModelFile> index_file = {};
  // Bytes of the shard index (`model.safetensors.index.json`), empty for models without one.
  std::string shard_index;
  // Sorted by name.
  std::vector<SmallFile> small_files = {};
  // Sum of the weight files' sizes.
  uint64_t total_bytes = 0;
  // Whether every file has a strong validator.
  bool pinned_to_version = false;
};

// A tensor in a segment.
struct Piece {
  std::string name;
  DType dtype = DType::kU8;
  // torch's name of an element type that `dtype` can't tell; else empty.
  std::string torch_type = {};
  std::vector<uint64_t> shape;
  // Counted from the segment's first byte.
  uint64_t offset = 0;
  // The same in a GPU's memory.
  uint64_t device_offset = 0;
  uint64_t nbytes = 0;
  // Index into ModelIndex::files.
  uint32_t file = 0;
};

// Bytes of a file and where in the segment they go.
struct Extent {
  // Index into the model's files.
  uint32_t file = 0;
  ByteRange bytes;
  // Counted from the segment's first byte.
  uint64_t offset = 0;
};

// Who said what the bytes of a file have to be.
enum class Authority {
  kStore = 1,
  kPin = 2,
};

// Bytes of a file that were found to be what somebody said they have to be.
struct Verified {
  // Index into ModelIndex::files.
  uint32_t file = 0;
  source::ChecksumKind kind = source::ChecksumKind::kSha256;
  // Raw bytes.
  std::string value;
  // Not 0: the checksum of so many parts' checksums.
  uint32_t parts = 0;
  Authority by = Authority::kStore;

  bool operator==(const Verified&) const = default;
};

// How closely a load looks at the checksums that stand in files beside their tensors.
enum class VerifyPolicy {
  // One for each tensor, the cheapest there is, and what encryption proves.
  kFast,
  // All of them; a tensor without one, in a file that can have one or is encrypted, fails the load.
  kFull,
  kNever,
};

// Tensors of which a checksum of their own, or what they were encrypted with, proved the bytes.
struct TensorProof {
  uint64_t crc32 = 0;
  uint64_t sha256 = 0;
  uint64_t poly1305 = 0;
  // Those with no proof at all, in files that can have one.
  uint64_t unverified = 0;
  // Decrypted with AES-CTR, which proves nothing.
  uint64_t unauthenticated = 0;

  bool operator==(const TensorProof&) const = default;
};

// Takes bytes out of the host budget, evicting what may be evicted. Given by the cache, which knows
// what may.
using MakeRoom = std::function<absl::StatusOr<host::Reservation>(uint64_t bytes)>;

// What a client must know to turn a segment's bytes into tensors: the domain form of TensorIndex.
struct ModelIndex {
  Uri uri;
  RevisionId revision;
  std::vector<ModelFile> files;
  // As ResolvedModel's.
  std::optional<ModelFile> index_file = {};
  std::vector<SmallFile> small_files = {};
  // Ordered by name.
  std::vector<Piece> pieces;
  // How the files came into the segment, in their order.
  std::vector<Extent> extents;
  std::map<std::string, std::string> metadata;
  uint64_t segment_bytes = 0;
  // Of the segment in a GPU's memory.
  uint64_t device_bytes = 0;
  bool pinned_to_version = false;
  // Ordered by file.
  std::vector<Verified> verified;
  // What was found of tensors that have checksums of their own.
  TensorProof tensor_proof;
};

// What a model's segments are called: its URI, "@" and the first digits of its revision. What else
// tells them apart follows after a space.
std::string SegmentLabel(const Uri& uri, const RevisionId& revision);

// kNotAllowed if `policy` denies a file, small ones included, or where its bytes came from.
absl::Status CheckFiles(const ResolvedModel& model, const source::ReadPolicy& policy);
absl::Status CheckFiles(const ModelIndex& model, const source::ReadPolicy& policy);

class Digests;

// A published revision: the segment, and the index as clients get it.
struct ResidentModel {
  ModelIndex index;
  // Null if the bytes are only on GPUs.
  std::shared_ptr<host::HostSegment> weights;
  std::shared_ptr<host::HostSegment> encoded_index;
  // Bytes of `encoded_index` that count (its segment is whole pages).
  uint64_t encoded_index_bytes = 0;
  // The bytes of index.small_files; null if there are none.
  std::shared_ptr<host::HostSegment> small_files = {};
  uint64_t small_file_bytes = 0;
  // Of the files; shared by all who hold the model.
  std::shared_ptr<Digests> digests;
  // For `index`, if it is large.
  host::Reservation index_memory;
  // What the load put on GPUs. For the cache, which takes them out: they come and go by themselves.
  std::vector<std::shared_ptr<device::Segment>> copies = {};
  // GPUs that were among the destinations too, and why there is no copy on them.
  std::vector<std::pair<GpuId, absl::Status>> copy_failures = {};

  // To the host tier.
  uint64_t charged_bytes() const {
    return (weights == nullptr ? 0 : weights->charged_bytes()) + encoded_index->charged_bytes() +
           (small_files == nullptr ? 0 : small_files->charged_bytes()) + index_memory.bytes();
  }
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_MODEL_H_
