#include "daemon/pipeline/resolve.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/format/shard_index.h"
#include "daemon/pipeline/parallel.h"
#include "daemon/pipeline/small_files.h"
#include "daemon/source/checksum.h"

namespace weightd::pipeline {
namespace {

// A folder's weights are of one format; the first that it has.
struct WeightFiles {
  absl::string_view single_name;
  absl::string_view suffix;
};
constexpr WeightFiles kFormats[] = {{"model.safetensors", ".safetensors"},
                                    {"model.tensors", ".tensors"}};

bool LooksLikeFile(absl::string_view name) {
  return std::any_of(std::begin(kFormats), std::end(kFormats), [name](const WeightFiles& format) {
    return absl::EndsWith(name, format.suffix);
  });
}

class Resolver {
 public:
  Resolver(source::Source& source, const Uri& uri, const source::ReadPolicy& policy,
           Cancellation& cancellation, const KnownSmallFiles* known_small_files)
      : source_(source),
        uri_(uri),
        policy_(policy),
        cancellation_(cancellation),
        known_small_files_(known_small_files) {}

  absl::StatusOr<ResolvedModel> Resolve() {
    // Many servers answer for a folder without its slash with a listing, which is no weight file: a
    // name that doesn't look like one is a folder if that has weights.
    const bool looks_like_file = LooksLikeFile(uri_.FileName());
    absl::StatusOr<ResolvedModel> first = looks_like_file ? ResolveFile() : ResolveFolder();
    if (uri_.IsFolder() || !IsAbsent(first.status())) {
      return first;
    }
    absl::StatusOr<ResolvedModel> second = looks_like_file ? ResolveFolder() : ResolveFile();
    return IsAbsent(second.status()) ? first : second;
  }

 private:
  absl::StatusOr<ResolvedModel> ResolveFile() {
    ASSIGN_OR_RETURN(ModelFile file, StatFile(uri_.FileName(), uri_));
    return Finish({std::move(file)}, std::nullopt, {});
  }

  absl::StatusOr<ResolvedModel> ResolveFolder() {
    ASSIGN_OR_RETURN(ResolvedModel model, ResolveWeights());
    if (known_small_files_ != nullptr) {
      ASSIGN_OR_RETURN(model.small_files,
                       FindSmallFiles(source_, uri_, *known_small_files_, policy_, cancellation_));
      model.revision = NameRevision(uri_, model.files,
                                    model.index_file.has_value() ? &*model.index_file : nullptr,
                                    model.small_files);
    }
    RETURN_IF_ERROR(CheckUnchanged(model));
    return model;
  }

  // Writers change the index first and last: if it is still the same, so were its shards. A hub's
  // commit is part of every version, the small files' included.
  absl::Status CheckUnchanged(const ResolvedModel& model) {
    if (!model.index_file.has_value() && model.small_files.empty()) {
      return absl::OkStatus();
    }
    const ModelFile& first = model.index_file.has_value() ? *model.index_file : model.files.front();
    ASSIGN_OR_RETURN(const ModelFile now, StatChild(first.name));
    if (now.version.validator != first.version.validator ||
        now.version.size != first.version.size) {
      return Error(
          Reason::kSourceChanged,
          absl::StrCat(PrintableText(first.name), " changed while the model's files were found"),
          "try again when nobody writes to the folder");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ResolvedModel> ResolveWeights() {
    absl::StatusOr<ModelFile> index = StatChild(format::kShardIndexName);
    if (index.ok()) {
      return ResolveShards(*std::move(index));
    }
    if (!IsAbsent(index.status())) {
      return index.status();
    }
    absl::Status denied_or_absent = index.status();
    for (const WeightFiles& format : kFormats) {
      absl::StatusOr<ModelFile> single = StatChild(format.single_name);
      if (single.ok()) {
        return Finish({*std::move(single)}, std::nullopt, {});
      }
      if (!IsAbsent(single.status())) {
        return single.status();
      }
      if (absl::IsNotFound(denied_or_absent)) {
        denied_or_absent = single.status();
      }
    }
    return ResolveListed(denied_or_absent);
  }

  // `denied_or_absent` is what the store said of the usual names.
  absl::StatusOr<ResolvedModel> ResolveListed(const absl::Status& denied_or_absent) {
    ASSIGN_OR_RETURN(const std::vector<std::string> weights, ListWeights());
    if (!weights.empty()) {
      ASSIGN_OR_RETURN(std::vector<ModelFile> files, StatAll(weights));
      return Finish(std::move(files), std::nullopt, {});
    }
    if (!absl::IsNotFound(denied_or_absent)) {
      return denied_or_absent;
    }
    return Error(Reason::kModelNotFound,
                 absl::StrCat("neither a weight file nor a folder with ", format::kShardIndexName,
                              ", ", kFormats[0].single_name, " or ", kFormats[1].single_name),
                 "check the URI; a web server's files have to be named, or an index for them");
  }

  // None where nobody may list. Without one of its weight files a model would be another one: what
  // can't be named is an error.
  absl::StatusOr<std::vector<std::string>> ListWeights() {
    absl::StatusOr<std::vector<std::string>> names = source_.List(uri_, policy_, cancellation_);
    const Reason reason = ReasonOf(names.status());
    if (reason == Reason::kUnsupported || reason == Reason::kSourceDenied) {
      return std::vector<std::string>();
    }
    RETURN_IF_ERROR(names.status());
    for (const WeightFiles& format : kFormats) {
      const auto others = std::partition(
          names->begin(), names->end(),
          [&](const std::string& name) { return absl::EndsWith(name, format.suffix); });
      if (others != names->begin() || &format == &std::end(kFormats)[-1]) {
        names->erase(others, names->end());
        break;
      }
    }
    std::sort(names->begin(), names->end());
    if (names->size() > format::kMaxShards) {
      return Error(Reason::kMalformedModel,
                   absl::StrCat("a folder of ", names->size(), " weight files; at most ",
                                format::kMaxShards, " are allowed"),
                   "name one of the files");
    }
    for (const std::string& name : *names) {
      if (!uri_.Child(name).ok()) {
        return Error(Reason::kMalformedModel,
                     absl::StrCat("a weight file that no URI can name: ", PrintableText(name)),
                     absl::StrCat("rename it, or write a ", format::kShardIndexName,
                                  " that names the model's files"));
      }
    }
    return names;
  }

  absl::StatusOr<ResolvedModel> ResolveShards(ModelFile index_file) {
    ASSIGN_OR_RETURN(std::string json, ReadShardIndex(index_file.version));
    ASSIGN_OR_RETURN(const format::ShardIndex index,
                     format::ParseShardIndex(json, format::kShardIndexName));
    ASSIGN_OR_RETURN(std::vector<ModelFile> files, StatAll(index.files));
    return Finish(std::move(files), std::move(index_file), std::move(json));
  }

  absl::StatusOr<std::string> ReadShardIndex(const source::ObjectVersion& version) {
    if (version.size > format::kMaxShardIndexBytes) {
      return Error(Reason::kMalformedModel,
                   absl::StrCat(format::kShardIndexName, " has ", version.size, " bytes; at most ",
                                format::kMaxShardIndexBytes, " are allowed"),
                   "no real index is as large: ask whoever wrote it");
    }
    std::string json(version.size, '\0');
    const source::ReadRequest request{
        &version, {0, version.size}, reinterpret_cast<std::byte*>(json.data())};
    RETURN_IF_ERROR(source_.Read({&request, 1}, policy_, {}, cancellation_));
    return json;
  }

  absl::StatusOr<std::vector<ModelFile>> StatAll(const std::vector<std::string>& names) {
    std::vector<std::string> places;
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(const Uri child, uri_.Child(name));
      places.push_back(child.Redacted());
    }
    RETURN_IF_ERROR(source::CheckPlaces(places, policy_));
    std::vector<ModelFile> files(names.size());
    RETURN_IF_ERROR(ForEachAtOnce(names.size(), [&](size_t i) -> absl::Status {
      ASSIGN_OR_RETURN(files[i], StatUndenied(names[i]));
      return absl::OkStatus();
    }));
    return files;
  }

  // What is denied gets the same answer whether it is there or not.
  absl::StatusOr<ModelFile> StatChild(absl::string_view name) {
    ASSIGN_OR_RETURN(const Uri child, uri_.Child(name));
    RETURN_IF_ERROR(source::CheckPlaces({child.Redacted()}, policy_));
    return StatUndenied(name);
  }

  absl::StatusOr<ModelFile> StatUndenied(absl::string_view name) {
    ASSIGN_OR_RETURN(const Uri child, uri_.Child(name));
    absl::StatusOr<ModelFile> file = StatFile(std::string(name), child);
    if (!file.ok()) {
      // A redirect may have led to what is denied: which file it was is nobody's business.
      return absl::StrContains(file.status().message(), name) ||
                     file.status() == source::NotAllowed()
                 ? file.status()
                 : Annotate(file.status(), PrintableText(name));
    }
    return file;
  }

  absl::StatusOr<ModelFile> StatFile(std::string name, const Uri& uri) {
    ASSIGN_OR_RETURN(source::ObjectVersion version, source_.Stat(uri, policy_, cancellation_));
    if (!version.strong && !policy_.unpinned) {
      return Error(Reason::kNotAllowed,
                   absl::StrCat(PrintableText(name),
                                " has no strong validator: its bytes can't be pinned to one "
                                "version"),
                   "let the server send a strong ETag, or have an operator preload the model");
    }
    return ModelFile{std::move(name), std::move(version)};
  }

  absl::StatusOr<ResolvedModel> Finish(std::vector<ModelFile> files,
                                       std::optional<ModelFile> index_file,
                                       std::string shard_index) {
    ResolvedModel model;
    model.uri = uri_;
    model.revision = NameRevision(uri_, files, index_file.has_value() ? &*index_file : nullptr);
    model.pinned_to_version = !index_file.has_value() || index_file->version.strong;
    for (const ModelFile& file : files) {
      model.pinned_to_version &= file.version.strong;
      if (__builtin_add_overflow(model.total_bytes, file.version.size, &model.total_bytes)) {
        return Error(Reason::kMalformedModel, "the files' sizes exceed 2^64 bytes",
                     "look at the server that says so");
      }
    }
    model.files = std::move(files);
    model.index_file = std::move(index_file);
    model.shard_index = std::move(shard_index);
    return model;
  }

  source::Source& source_;
  const Uri& uri_;
  const source::ReadPolicy& policy_;
  Cancellation& cancellation_;
  const KnownSmallFiles* const known_small_files_;
};

}  // namespace

RevisionId NameRevision(const Uri& uri, const std::vector<ModelFile>& files,
                        const ModelFile* index_file, absl::Span<const SmallFile> small_files) {
  const std::unique_ptr<source::Hasher> digest = source::MakeHasher(source::ChecksumKind::kSha256);
  const auto update = [&](absl::string_view text) {
    digest->Update({reinterpret_cast<const std::byte*>(text.data()), text.size()});
  };
  // Each part with its length, so that no two lists of parts give the same bytes.
  const auto add = [&](absl::string_view part) {
    update(absl::StrCat(part.size(), ":"));
    update(part);
  };
  const auto add_file = [&](const ModelFile& file) {
    add(file.name);
    add(absl::StrCat(file.version.size));
    add(file.version.validator);
  };
  add(uri.ToString());
  add(index_file != nullptr ? "sharded" : "single");
  if (index_file != nullptr) {
    add_file(*index_file);
  }
  for (const ModelFile& file : files) {
    add_file(file);
  }
  if (!small_files.empty()) {
    // One part where there are three for each file else.
    add("small files");
  }
  for (const SmallFile& small : small_files) {
    add_file(small.file);
  }
  return RevisionId(absl::BytesToHexString(digest->Finish()));
}

absl::StatusOr<ResolvedModel> ResolveModel(source::Source& source, const Uri& uri,
                                           const source::ReadPolicy& policy,
                                           Cancellation& cancellation,
                                           const KnownSmallFiles* known_small_files) {
  return Resolver(source, uri, policy, cancellation, known_small_files).Resolve();
}

}  // namespace weightd::pipeline
