#include "daemon/pipeline/small_files.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/pipeline/parallel.h"
#include "daemon/pipeline/verify.h"
#include "daemon/source/checksum.h"

namespace weightd::pipeline {
namespace {

// sentence-transformers: only beside kModules.
constexpr absl::string_view kPooling = "1_Pooling/config.json";
constexpr absl::string_view kModules = "modules.json";

constexpr absl::string_view kNames[] = {
    kPooling,
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "hf_quant_config.json",
    "merges.txt",
    kModules,
    "params.json",
    "preprocessor_config.json",
    "processor_config.json",
    "quantize_config.json",
    "sentence_bert_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
};

constexpr absl::string_view kDenied = "weightd is denied it where it lies";

using Names = std::vector<std::string>;

// Says why those are left out that don't fit, and where the others lie.
void Place(std::vector<SmallFile>& files) {
  uint64_t end = 0;
  for (SmallFile& small : files) {
    const uint64_t size = small.file.version.size;
    if (!small.left_out.empty()) {
      continue;
    }
    if (size > kMaxSmallFileBytes - end) {
      small.left_out =
          absl::StrCat("it has ", size, " bytes; a model's small files may have ",
                       kMaxSmallFileBytes, " together, and others have ", end, " of them");
      continue;
    }
    small.offset = end;
    end += size;
  }
}

class Search {
 public:
  Search(source::Source& source, const Uri& folder, const source::ReadPolicy& policy,
         Cancellation& cancellation)
      : source_(source), folder_(folder), policy_(policy), cancellation_(cancellation) {}

  // Those that were there before.
  absl::Status LookFor(const Names& known) {
    RETURN_IF_ERROR(Look(known));
    TakeDenied();
    return absl::OkStatus();
  }

  // Whichever may be there.
  absl::Status LookForAll() {
    Names names(std::begin(kNames) + 1, std::end(kNames));
    const absl::StatusOr<Names> listed = source_.List(folder_, policy_, cancellation_);
    RETURN_IF_ERROR(cancellation_.status());
    if (listed.ok()) {
      std::erase_if(names, [&listed](const std::string& name) {
        return std::find(listed->begin(), listed->end(), name) == listed->end();
      });
    }
    RETURN_IF_ERROR(Look(names));
    const bool has_modules = std::any_of(files_.begin(), files_.end(), [](const SmallFile& small) {
      return small.file.name == kModules;
    });
    if (has_modules) {
      RETURN_IF_ERROR(Look({std::string(kPooling)}));
    }
    // Where nobody may list, stores say "denied" of what is missing, too: of all of it.
    if (listed.ok() || any_absent_) {
      TakeDenied();
    }
    return absl::OkStatus();
  }

  // Not even whether a denied one is there is anybody's business.
  absl::Status CheckAllowed(const Names& names) const {
    std::vector<std::string> places;
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(const Uri child, folder_.Child(name));
      places.push_back(child.Redacted());
    }
    return source::CheckPlaces(places, policy_);
  }

  std::vector<SmallFile> Files() && {
    std::sort(files_.begin(), files_.end(),
              [](const SmallFile& a, const SmallFile& b) { return a.file.name < b.file.name; });
    Place(files_);
    return std::move(files_);
  }

 private:
  // Adds those of `names` that are there to what was found.
  absl::Status Look(const Names& names) {
    std::vector<std::optional<SmallFile>> found(names.size());
    RETURN_IF_ERROR(ForEachAtOnce(names.size(), [&](size_t i) -> absl::Status {
      ASSIGN_OR_RETURN(found[i], Stat(names[i]));
      return absl::OkStatus();
    }));
    for (std::optional<SmallFile>& one : found) {
      if (!one.has_value()) {
        any_absent_ = true;
      } else {
        (one->left_out == kDenied ? denied_ : files_).push_back(*std::move(one));
      }
    }
    return absl::OkStatus();
  }

  void TakeDenied() {
    std::move(denied_.begin(), denied_.end(), std::back_inserter(files_));
    denied_.clear();
  }

  absl::StatusOr<std::optional<SmallFile>> Stat(const std::string& name) {
    ASSIGN_OR_RETURN(const Uri child, folder_.Child(name));
    SmallFile small;
    small.file.name = name;
    absl::StatusOr<source::ObjectVersion> version = source_.Stat(child, policy_, cancellation_);
    const Reason reason = ReasonOf(version.status());
    if (version.ok()) {
      small.file.version = *std::move(version);
      if (!small.file.version.strong && !policy_.unpinned) {
        small.left_out = "it has no strong validator: its bytes can't be pinned to one version";
      }
      return small;
    }
    if (reason == Reason::kModelNotFound) {
      return std::nullopt;
    }
    if (reason == Reason::kSourceDenied || reason == Reason::kAddressRefused) {
      small.left_out = std::string(
          reason == Reason::kSourceDenied ? kDenied : "it lies where weightd may not read");
      return small;
    }
    // A redirect may have led to what is denied: which file it was is nobody's business.
    return absl::StrContains(version.status().message(), name) ||
                   version.status() == source::NotAllowed()
               ? version.status()
               : Annotate(version.status(), name);
  }

  source::Source& source_;
  const Uri& folder_;
  const source::ReadPolicy& policy_;
  Cancellation& cancellation_;
  std::vector<SmallFile> files_;
  std::vector<SmallFile> denied_;
  bool any_absent_ = false;
};

absl::string_view TextOf(const ModelFile& file, const std::byte* bytes) {
  return {reinterpret_cast<const char*>(bytes), file.version.size};
}

// The checksum of `bytes` that `expected` is one of.
std::string SumOf(absl::string_view bytes, const source::Checksum& expected) {
  if (!expected.composite()) {
    return source::HashOf(expected.kind, bytes);
  }
  std::string sums;
  for (const uint64_t size : expected.part_sizes) {
    sums += source::HashOf(expected.kind, bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
  return source::HashOf(expected.kind, sums);
}

absl::Status Compare(absl::Span<const ModelFile> files, absl::Span<const std::byte* const> places,
                     absl::Span<const Expected> expected) {
  for (const Expected& one : expected) {
    const ModelFile& file = files[one.file];
    if (SumOf(TextOf(file, places[one.file]), one.checksum) != one.checksum.value) {
      return Error(
          Reason::kVerificationFailed,
          absl::StrCat(PrintableText(file.name), ": its ", source::NameOf(one.checksum.kind),
                       " differs from what the store says it is"),
          "try again; if it stays so, the object is damaged: put it there anew");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Span<const absl::string_view> WellKnownSmallFiles() { return kNames; }

bool IsAbsent(const absl::Status& status) {
  const Reason reason = ReasonOf(status);
  return !status.ok() && (reason == Reason::kModelNotFound || reason == Reason::kSourceDenied);
}

absl::StatusOr<std::vector<SmallFile>> FindSmallFiles(source::Source& source, const Uri& folder,
                                                      const KnownSmallFiles& known,
                                                      const source::ReadPolicy& policy,
                                                      Cancellation& cancellation) {
  Search search(source, folder, policy, cancellation);
  if (known.has_value()) {
    RETURN_IF_ERROR(search.CheckAllowed(*known));
    RETURN_IF_ERROR(search.LookFor(*known));
  } else {
    RETURN_IF_ERROR(search.CheckAllowed(Names(std::begin(kNames), std::end(kNames))));
    RETURN_IF_ERROR(search.LookForAll());
  }
  return std::move(search).Files();
}

uint64_t TotalBytes(absl::Span<const SmallFile> files) {
  uint64_t bytes = 0;
  for (const SmallFile& small : files) {
    bytes += small.bytes();
  }
  return bytes;
}

absl::StatusOr<std::shared_ptr<host::HostSegment>> ReadSmallFiles(
    source::Source& source, absl::Span<const SmallFile> files, absl::string_view label,
    host::Reservation reservation, const source::ReadPolicy& policy,
    const source::ReadObserver& observer, Cancellation& cancellation) {
  const uint64_t total = TotalBytes(files);
  if (total == 0) {
    return nullptr;
  }
  ASSIGN_OR_RETURN(host::WritableSegment segment,
                   host::WritableSegment::Create(label, total, std::move(reservation)));
  std::vector<ModelFile> kept;
  std::vector<std::byte*> places;
  for (const SmallFile& small : files) {
    if (small.bytes() > 0) {
      kept.push_back(small.file);
      places.push_back(segment.bytes().data() + small.offset);
    }
  }
  std::vector<source::ReadRequest> requests;
  requests.reserve(kept.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    requests.push_back({&kept[i].version, {0, kept[i].version.size}, places[i]});
  }
  ASSIGN_OR_RETURN(
      const std::vector<Expected> expected,
      AskChecksums(source, kept, source::Source::PartSizes::kAsked, policy, cancellation));
  RETURN_IF_ERROR(source.Read(requests, policy, observer, cancellation));
  if (!Compare(kept, places, expected).ok()) {
    // Perhaps on its way.
    RETURN_IF_ERROR(source.Read(requests, policy, observer, cancellation));
    RETURN_IF_ERROR(Compare(kept, places, expected));
  }
  return std::move(segment).Seal();
}

}  // namespace weightd::pipeline
