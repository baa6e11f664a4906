#include "daemon/source/hf/hf_source.h"

#include <algorithm>
#include <cstddef>
#include <deque>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/hf/hf_api.h"
#include "daemon/source/hf/hf_cache.h"
#include "daemon/source/hf/hf_dialect.h"
#include "daemon/source/hf/hf_names.h"
#include "daemon/source/http/http_reader.h"

namespace weightd::source {
namespace {

// What a folder's weights are called, in the order in which the first that is there counts.
constexpr absl::string_view kWeightNames[] = {"model.safetensors.index.json", "model.safetensors",
                                              "model.tensors"};

// The hub as one kind of reader sees it.
struct Access {
  // Null where it has no address.
  std::unique_ptr<HttpReader> hub;
  std::unique_ptr<HfCache> cache;
};

absl::StatusOr<Access> MakeAccess(const absl::StatusOr<std::string>& endpoint, HfToken token,
                                  std::string cache, HttpSourceOptions http,
                                  HfCache::OnDamaged on_damaged) {
  Access access;
  access.cache = std::make_unique<HfCache>(std::move(cache), std::move(on_damaged));
  if (endpoint.ok()) {
    ASSIGN_OR_RETURN(std::shared_ptr<HfDialect> dialect,
                     HfDialect::Make(*endpoint, std::move(token)));
    ASSIGN_OR_RETURN(access.hub, HttpReader::Make(std::move(http), std::move(dialect)));
  }
  return access;
}

// Some of a read's requests, of versions as whoever brings them knows them.
struct Share {
  std::deque<ObjectVersion> versions;
  std::vector<ReadRequest> requests;
  // Their places among all requests.
  std::vector<size_t> indices;

  void Add(const ReadRequest& request, size_t index, ObjectVersion version) {
    ReadRequest mine = request;
    mine.object = &versions.emplace_back(std::move(version));
    requests.push_back(mine);
    indices.push_back(index);
  }
  ReadObserver Observed(const ReadObserver& observer) const {
    ReadObserver mine = observer;
    mine.on_request_done = [this, &observer](size_t i) { observer.on_request_done(indices[i]); };
    return mine;
  }
};

absl::Status OfSeveralCommits(const Uri& uri) {
  return Error(Reason::kSourceChanged,
               absl::StrCat(uri.Redacted(), ": its revision moved while its files were found"),
               "try again when nobody pushes to it");
}

absl::Status NoVersion(const Uri& uri) {
  return Error(
      Reason::kSourceProtocol,
      absl::StrCat(uri.Redacted(), ": the hub says neither the commit nor the file's hash"),
      "check that the endpoint is a hub of models");
}

class HfSource final : public Source {
 public:
  HfSource(Access own, Access shared, absl::Status has_hub, bool offline)
      : own_(std::move(own)),
        shared_(std::move(shared)),
        has_hub_(std::move(has_hub)),
        offline_(offline) {}

  absl::StatusOr<ObjectVersion> Stat(const Uri& uri, const ReadPolicy& policy,
                                     Cancellation& cancellation) override {
    const Access& access = Of(policy);
    if (ParseHfName(uri).IsFolder()) {
      return Error(Reason::kModelNotFound, absl::StrCat(uri.Redacted(), ": a folder, no file"),
                   "name a file of the repository");
    }
    if (offline_) {
      return StatOffline(access, uri, cancellation);
    }
    RETURN_IF_ERROR(Annotate(has_hub_, uri.Redacted()));
    absl::StatusOr<ObjectVersion> version = access.hub->Stat(uri, policy, cancellation);
    if (ReasonOf(version.status()) == Reason::kSourceUnavailable && !cancellation.cancelled()) {
      const absl::StatusOr<ObjectVersion> cached = StatOffline(access, uri, cancellation);
      return cached.ok() || HasOtherWeights(access, uri, cancellation) ? cached : version;
    }
    if (version.ok() && !ParseValidator(version->validator).has_value()) {
      return NoVersion(uri);
    }
    return version;
  }

  absl::StatusOr<std::vector<std::string>> List(const Uri& folder, const ReadPolicy& policy,
                                                Cancellation& cancellation) override {
    const Access& access = Of(policy);
    const HfName name = AsFolder(ParseHfName(folder));
    if (offline_) {
      return ListOffline(access, name, cancellation);
    }
    RETURN_IF_ERROR(Annotate(has_hub_, folder.Redacted()));
    // The API tells of a repository, not of folders in it.
    ASSIGN_OR_RETURN(const Uri repository,
                     Uri::Parse(absl::StrCat("hf://", name.organisation, "/", name.repository, "@",
                                             name.encoded_revision, "/")));
    const absl::StatusOr<std::string> answer =
        access.hub->Fetch(repository, kMaxHfAnswerBytes, policy, cancellation);
    if (ReasonOf(answer.status()) == Reason::kSourceUnavailable && !cancellation.cancelled()) {
      absl::StatusOr<std::vector<std::string>> cached = ListOffline(access, name, cancellation);
      return cached.ok() ? std::move(cached) : answer.status();
    }
    RETURN_IF_ERROR(answer.status());
    const absl::StatusOr<HfRepository> parsed = ParseHfRepository(*answer);
    if (!parsed.ok()) {
      return Annotate(parsed.status(), folder.Redacted());
    }
    return FilesIn(parsed->files, name.file);
  }

  bool copies() const override { return true; }

  absl::StatusOr<std::vector<Checksum>> Checksums(const ObjectVersion& object, PartSizes,
                                                  const ReadPolicy&, Cancellation&) override {
    const std::optional<HfVersion> version = ParseValidator(object.validator);
    std::vector<Checksum> checksums;
    if (version.has_value()) {
      if (std::optional<std::string> value = version->Sha256(); value.has_value()) {
        checksums.push_back(
            {.kind = ChecksumKind::kSha256, .value = *std::move(value), .part_sizes = {}});
      }
    }
    return checksums;
  }

  absl::Status Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                    const ReadObserver& observer, Cancellation& cancellation) override;

  // Only files of the cache. Offline the next read says which one is damaged.
  bool Distrust(absl::Span<const ObjectVersion* const> objects, const ReadPolicy& policy,
                Cancellation& cancellation) override;

 private:
  const Access& Of(const ReadPolicy& policy) const { return policy.any_path ? own_ : shared_; }

  static HfName AsFolder(HfName name) {
    if (!name.IsFolder()) {
      name.file.push_back('/');
    }
    return name;
  }

  static absl::StatusOr<ObjectVersion> StatOffline(const Access& access, const Uri& uri,
                                                   Cancellation& cancellation) {
    const HfName name = ParseHfName(uri);
    ASSIGN_OR_RETURN(const std::string commit, access.cache->CommitOf(name));
    ASSIGN_OR_RETURN(const HfCache::Found found, access.cache->Find(name, commit, cancellation));
    ObjectVersion version;
    version.uri = uri;
    version.size = found.blob.size;
    version.validator = ToValidator(found.version);
    version.strong = true;
    return version;
  }

  // Whether `uri` is one of kWeightNames, and the cache has one that comes after it in the same
  // folder: then the model is whole without it.
  static bool HasOtherWeights(const Access& access, const Uri& uri, Cancellation& cancellation) {
    const HfName name = ParseHfName(uri);
    const std::string folder = name.file.substr(0, name.file.rfind('/') + 1);
    const auto wanted = std::find(std::begin(kWeightNames), std::end(kWeightNames),
                                  absl::string_view(name.file).substr(folder.size()));
    const absl::StatusOr<std::string> commit = access.cache->CommitOf(name);
    return wanted != std::end(kWeightNames) && commit.ok() &&
           std::any_of(wanted + 1, std::end(kWeightNames), [&](absl::string_view other) {
             HfName beside = name;
             beside.file = absl::StrCat(folder, other);
             return access.cache->Find(beside, *commit, cancellation).ok();
           });
  }

  static absl::StatusOr<std::vector<std::string>> ListOffline(const Access& access,
                                                              const HfName& name,
                                                              Cancellation& cancellation) {
    ASSIGN_OR_RETURN(const std::string commit, access.cache->CommitOf(name));
    return access.cache->List(name, commit, cancellation);
  }

  // Shares the requests out among the cache and the hub.
  absl::Status Split(absl::Span<const ReadRequest> requests, const Access& access, Share& cached,
                     Share& remote, Cancellation& cancellation) const;

  const Access own_;
  const Access shared_;
  // Why there is none, unless it is OK.
  const absl::Status has_hub_;
  const bool offline_;
};

absl::Status HfSource::Split(absl::Span<const ReadRequest> requests, const Access& access,
                             Share& cached, Share& remote, Cancellation& cancellation) const {
  std::string only_commit;
  for (size_t i = 0; i < requests.size(); ++i) {
    const ObjectVersion& object = *requests[i].object;
    const std::optional<HfVersion> version = ParseValidator(object.validator);
    if (!version.has_value()) {
      return NoVersion(object.uri);
    }
    // All of one model.
    if (!only_commit.empty() && version->commit != only_commit) {
      return OfSeveralCommits(object.uri);
    }
    only_commit = version->commit;
    const HfName name = ParseHfName(object.uri);
    absl::StatusOr<HfCache::Found> found = access.cache->Find(name, version->commit, cancellation);
    RETURN_IF_ERROR(cancellation.status());
    const bool same = found.ok() && found->version.etag == version->etag;
    if (same && found->blob.size != object.size) {
      access.cache->MarkDamaged(name, *found);
    }
    if (same && found->blob.size == object.size) {
      cached.Add(requests[i], i, std::move(found->blob));
    } else if (offline_ && ReasonOf(found.status()) == Reason::kVerificationFailed) {
      return found.status();
    } else if (offline_) {
      return Error(Reason::kSourceChanged,
                   absl::StrCat(object.uri.Redacted(), ": gone from the local cache"),
                   "download it there again");
    } else {
      RETURN_IF_ERROR(Annotate(has_hub_, object.uri.Redacted()));
      ObjectVersion pinned = object;
      ASSIGN_OR_RETURN(pinned.uri, PinnedTo(object.uri, version->commit));
      remote.Add(requests[i], i, std::move(pinned));
    }
  }
  return absl::OkStatus();
}

absl::Status HfSource::Read(absl::Span<const ReadRequest> requests, const ReadPolicy& policy,
                            const ReadObserver& observer, Cancellation& cancellation) {
  RETURN_IF_ERROR(CheckRanges(requests));
  const Access& access = Of(policy);
  Share cached;
  Share remote;
  RETURN_IF_ERROR(Split(requests, access, cached, remote, cancellation));
  RETURN_IF_ERROR(cancellation.status());
  if (!cached.requests.empty()) {
    const absl::Status read =
        access.cache->Read(cached.requests, cached.Observed(observer), cancellation);
    // Where the cache lies is no client's business.
    if (ReasonOf(read) == Reason::kSourceChanged) {
      return Error(Reason::kSourceChanged,
                   absl::StrCat(requests[cached.indices[0]].object->uri.Redacted(),
                                ": its copy in the local cache changed while it was read"),
                   "try again when nobody writes there");
    }
    RETURN_IF_ERROR(read);
  }
  return remote.requests.empty()
             ? absl::OkStatus()
             : access.hub->Read(remote.requests, policy, remote.Observed(observer), cancellation);
}

bool HfSource::Distrust(absl::Span<const ObjectVersion* const> objects, const ReadPolicy& policy,
                        Cancellation& cancellation) {
  const HfCache& cache = *Of(policy).cache;
  bool damaged = false;
  for (const ObjectVersion* object : objects) {
    const std::optional<HfVersion> version = ParseValidator(object->validator);
    if (!version.has_value()) {
      continue;
    }
    const HfName name = ParseHfName(object->uri);
    const absl::StatusOr<HfCache::Found> found = cache.Find(name, version->commit, cancellation);
    if (found.ok() && found->version.etag == version->etag &&
        !cache.IsWhole(name, *found, cancellation)) {
      damaged = true;
    }
  }
  return damaged;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Source>> MakeHfSource(HfSourceOptions options) {
  const absl::StatusOr<std::string> endpoint = std::move(options.settings.endpoint);
  HfCache::OnDamaged on_damaged;
  if (options.on_damaged_copy != nullptr) {
    on_damaged = [tell = std::move(options.on_damaged_copy)](const HfName& name) {
      tell(absl::StrCat("hf://", name.organisation, "/", name.repository, "@",
                        name.encoded_revision, "/", name.encoded_file));
    };
  }
  ASSIGN_OR_RETURN(Access own,
                   MakeAccess(endpoint, std::move(options.settings.token),
                              std::move(options.settings.cache), options.http, on_damaged));
  ASSIGN_OR_RETURN(Access shared, MakeAccess(endpoint, std::move(options.shared_token),
                                             std::move(options.shared_cache),
                                             std::move(options.http), std::move(on_damaged)));
  return std::make_unique<HfSource>(std::move(own), std::move(shared), endpoint.status(),
                                    options.settings.offline);
}

}  // namespace weightd::source
