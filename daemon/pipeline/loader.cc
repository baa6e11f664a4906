#include "daemon/pipeline/loader.h"

#include <malloc.h>

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "common/status.h"
#include "daemon/pipeline/load.h"
#include "daemon/pipeline/resolve.h"

namespace weightd::pipeline {
namespace {

// Errors of sources often name the object already.
absl::Status Named(const absl::Status& status, const Uri& uri) {
  const std::string name = uri.Redacted();
  return absl::StrContains(status.message(), name) || status == source::NotAllowed()
             ? status
             : Annotate(status, name);
}

// Whether the bytes that came may be others than the model's.
bool MakesNoSense(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return !status.ok() &&
         (reason == Reason::kMalformedModel || reason == Reason::kVerificationFailed);
}

std::vector<const source::ObjectVersion*> VersionsOf(const ResolvedModel& resolved) {
  std::vector<const source::ObjectVersion*> versions;
  versions.reserve(resolved.files.size());
  for (const ModelFile& file : resolved.files) {
    versions.push_back(&file.version);
  }
  for (const SmallFile& small : resolved.small_files) {
    if (small.bytes() > 0) {
      versions.push_back(&small.file.version);
    }
  }
  return versions;
}

class Loader : public ModelLoader {
 public:
  Loader(const source::Registry* sources, EncodeIndex encode_index, LoaderOptions options)
      : sources_(sources), encode_index_(std::move(encode_index)), options_(options) {}

  absl::StatusOr<ResolvedModel> Resolve(const Uri& uri, const source::ReadPolicy& policy,
                                        const KnownSmallFiles& known,
                                        Cancellation& cancellation) override {
    ASSIGN_OR_RETURN(source::Source* const source, sources_->For(uri));
    absl::StatusOr<ResolvedModel> resolved =
        ResolveModel(*source, uri, policy, cancellation, &known);
    if (!resolved.ok()) {
      return Named(resolved.status(), uri);
    }
    return resolved;
  }

  absl::StatusOr<ResidentModel> Load(const ResolvedModel& resolved,
                                     const source::ReadPolicy& policy,
                                     const std::optional<ModelKey>& key, const MakeRoom& make_room,
                                     const Destinations& destinations, Progress& progress,
                                     Cancellation& cancellation) override {
    ASSIGN_OR_RETURN(source::Source* const source, sources_->For(resolved.uri));
    bool damaged = false;
    const auto load = [&](source::Source::PartSizes part_sizes) {
      pipeline::Load once(*source, encode_index_, options_, resolved, part_sizes, policy, key,
                          progress, cancellation);
      auto loaded = once.Run(make_room, destinations);
      damaged = once.damaged();
      return loaded;
    };
    absl::StatusOr<ResidentModel> model = load(source::Source::PartSizes::kInferred);
    const bool elsewhere = MakesNoSense(model.status()) &&
                           source->Distrust(VersionsOf(resolved), policy, cancellation);
    if (damaged || elsewhere) {
      // On its way, or at one of several places; or it is a composite of parts of unlike sizes, and
      // its header too large to be kept. Once more, taking nothing for granted.
      model = load(source::Source::PartSizes::kAsked);
    }
    // Headers are parsed into millions of small blocks, which malloc would keep: give the pages
    // back, or memory beside the budget grows with the largest header ever seen.
    malloc_trim(0);
    if (!model.ok()) {
      return Named(model.status(), resolved.uri);
    }
    return model;
  }

 private:
  const source::Registry* const sources_;
  const EncodeIndex encode_index_;
  const LoaderOptions options_;
};

}  // namespace

std::unique_ptr<ModelLoader> MakeModelLoader(const source::Registry* sources,
                                             EncodeIndex encode_index, LoaderOptions options) {
  return std::make_unique<Loader>(sources, std::move(encode_index), options);
}

}  // namespace weightd::pipeline
