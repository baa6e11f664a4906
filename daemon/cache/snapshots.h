#ifndef WEIGHTD_DAEMON_CACHE_SNAPSHOTS_H_
#define WEIGHTD_DAEMON_CACHE_SNAPSHOTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"

// What the cache tells of itself: copies, true at one moment.

namespace weightd::cache {

// The values are those of ModelState in proto/weightd/v1/weights.proto.
enum class ModelState {
  kAbsent = 1,
  kLoading = 2,
  kResident = 3,
  kDraining = 4,
};

struct ProgressSnapshot {
  pipeline::Phase phase = pipeline::Phase::kQueued;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;

  friend bool operator==(const ProgressSnapshot&, const ProgressSnapshot&) = default;
};

struct GpuCopySnapshot {
  GpuId gpu;
  uint64_t bytes = 0;
  // On this copy.
  uint32_t leases = 0;
};

struct ModelSnapshot {
  Uri uri;
  ModelState state = ModelState::kAbsent;
  RevisionId revision;
  uint64_t host_bytes = 0;
  uint64_t tensor_count = 0;
  uint32_t file_count = 0;
  uint32_t leases = 0;
  bool pinned = false;
  bool stale = false;
  // While loading.
  ProgressSnapshot progress;
  absl::Time loaded_at = absl::InfinitePast();
  absl::Time last_used_at = absl::InfinitePast();
  // Message of the last failed load; empty if it didn't fail.
  std::string last_error;
  // Leases that were granted on it, also by earlier daemons.
  uint64_t uses = 0;
  // An earlier daemon loaded it.
  bool readopted = false;
  // By GPU.
  std::vector<GpuCopySnapshot> copies = {};
};

// What a client got on a GPU.
struct DeviceGrant {
  GpuId gpu;
  bool is_private = false;
  // Of the allocation.
  uint64_t bytes = 0;
  // Empty: the claim brings a descriptor.
  std::string legacy_handle;
};

// What was verified of a file.
struct FileProof {
  std::string file;
  pipeline::Verified verified;
};

// A lease, and the model that it is on.
struct Grant {
  LeaseId lease;
  ModelSnapshot model;
  // Empty for models of more than 1,000 files: that much is not copied for each attach.
  std::vector<FileProof> proofs = {};
  bool pinned_to_version = false;
  std::optional<DeviceGrant> device = {};
};

// What came of the models that an earlier daemon left.
struct ReadoptionSnapshot {
  struct Failure {
    // None if that isn't known.
    Uri uri;
    bool pinned = false;
    absl::Status why;
  };

  uint64_t readopted = 0;
  uint64_t not_readopted = 0;
  uint64_t pins_lost = 0;
  // The first kMostFailures of them.
  std::vector<Failure> failures = {};
  // Descriptors that are of no model, and what they were called; OK if there were none.
  uint64_t unknown = 0;
  absl::Status unknown_why = {};

  static constexpr size_t kMostFailures = 20;
};

struct LeaseSnapshot {
  LeaseId id;
  Uri uri;
  RevisionId revision;
  std::string listener;
  uint32_t uid = 0;
  absl::Time granted_at;
  bool claimed = false;
  // Of what it is on, if that isn't host memory.
  std::optional<GpuId> gpu = {};
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_SNAPSHOTS_H_
