#ifndef WEIGHTD_DAEMON_PIPELINE_LOADER_H_
#define WEIGHTD_DAEMON_PIPELINE_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cancellation.h"
#include "common/pins.h"
#include "common/uri.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/destinations.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/pipeline/progress.h"
#include "daemon/source/registry.h"
#include "daemon/source/source.h"

namespace weightd::pipeline {

// Serializes an index for clients. Given by whoever knows the wire format.
using EncodeIndex = std::function<std::string(const ModelIndex&)>;
// The way back, of what an earlier daemon encoded: pieces, metadata and sizes. Trusts no byte.
using DecodeIndex = std::function<absl::StatusOr<ModelIndex>(absl::string_view)>;

// Finds and loads models. Thread-safe; several loads may run at once. Blocking: call it from a
// thread of its own.
class ModelLoader {
 public:
  virtual ~ModelLoader() = default;

  // Stats every file of the model and names its revision. Reads no weights. Of small files, those
  // that are `known` are looked for, else all that there may be.
  virtual absl::StatusOr<ResolvedModel> Resolve(const Uri& uri, const source::ReadPolicy& policy,
                                                const KnownSmallFiles& known,
                                                Cancellation& cancellation) = 0;

  // Headers, layout, reservation, transfer, seal. Returns a segment that is whole and can't be
  // changed any more, or leaves nothing behind. kSourceChanged if a file is no longer the version
  // of `resolved`: resolve again. `key` opens it; without one, what LoaderOptions say. A GPU that
  // fails fails the load only if the model would then be nowhere; else the copies that succeeded
  // come with it.
  virtual absl::StatusOr<ResidentModel> Load(const ResolvedModel& resolved,
                                             const source::ReadPolicy& policy,
                                             const std::optional<ModelKey>& key,
                                             const MakeRoom& make_room,
                                             const Destinations& destinations, Progress& progress,
                                             Cancellation& cancellation) = 0;
};

// What is asked of a model's bytes, whoever loads it.
struct LoadRules {
  // What its files have to be: no load that differs succeeds.
  Pins pins = {};
  // How closely tensors that have checksums of their own are looked at.
  VerifyPolicy verify = VerifyPolicy::kFast;
};

// Asked once at the beginning of a load; thread-safe.
using RulesOf = std::function<LoadRules(const Uri&)>;

struct LoaderOptions {
  // Largest single read that is asked of a source.
  uint64_t chunk_bytes = 32 << 20;
  // Of host memory, for a load whose destinations are GPUs only: what its bytes go through. More
  // where a tensor is encrypted that has to be there whole, less for a model that is smaller.
  uint64_t staging_bytes = 256 << 20;
  RulesOf rules_of = [](const Uri&) { return LoadRules(); };
  KeyOf key_of = [](const Uri&) { return std::nullopt; };
  // Outlive the loader; null: no load has a GPU among its destinations.
  device::Gpus* gpus = nullptr;
};

// `sources` outlives the loader.
std::unique_ptr<ModelLoader> MakeModelLoader(const source::Registry* sources,
                                             EncodeIndex encode_index, LoaderOptions options);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_LOADER_H_
