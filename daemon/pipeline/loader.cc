#include "daemon/pipeline/loader.h"

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/format/header.h"
#include "daemon/host/host_segment.h"
#include "daemon/pipeline/arrivals.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/heads.h"
#include "daemon/pipeline/heap_use.h"
#include "daemon/pipeline/layout.h"
#include "daemon/pipeline/plan.h"
#include "daemon/pipeline/populate_ahead.h"
#include "daemon/pipeline/resolve.h"
#include "daemon/pipeline/tensor_check.h"
#include "daemon/pipeline/tensor_keys.h"
#include "daemon/pipeline/verify.h"

namespace weightd::pipeline {
namespace {

// Headers are kept beside the budget until the bytes are verified, unless they are larger.
constexpr size_t kKeptHeaderBytes = 1 << 20;

// Digits of a revision that tell it from others to people.
constexpr size_t kShortRevision = 12;

// Errors of sources often name the object already.
absl::Status Named(const absl::Status& status, const Uri& uri) {
  const std::string name = uri.Redacted();
  return absl::StrContains(status.message(), name) ? status : Annotate(status, name);
}

size_t TotalSize(absl::Span<const std::string> texts) {
  return std::accumulate(texts.begin(), texts.end(), size_t{0},
                         [](size_t total, const std::string& text) { return total + text.size(); });
}

// Takes the metadata out of `headers`.
ModelIndex DescribeModel(const ResolvedModel& resolved, absl::Span<format::FileHeader> headers,
                         SegmentLayout layout) {
  ModelIndex index;
  index.uri = resolved.uri;
  index.revision = resolved.revision;
  index.files = resolved.files;
  index.pieces = std::move(layout.pieces);
  index.extents = std::move(layout.extents);
  for (format::FileHeader& header : headers) {
    index.metadata.merge(header.metadata);  // keeps what the first file said
  }
  index.segment_bytes = layout.segment_bytes;
  index.pinned_to_version = resolved.pinned_to_version;
  return index;
}

Digests::Header HashHeader(absl::string_view bytes, const format::FileHeader& header) {
  Digests::Header hashed = {.sha256 = nullptr, .bytes = bytes.size()};
  if (!header.encrypted()) {
    hashed.sha256 = source::MakeHasher(source::ChecksumKind::kSha256);
    hashed.sha256->Update({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
  }
  return hashed;
}

void Clear(host::WritableSegment& segment, absl::Span<const ByteRange> zeros) {
  for (const ByteRange& range : zeros) {
    memset(segment.bytes().data() + range.begin, 0, range.size());
    segment.CountWritten(range.size());
  }
}

absl::StatusOr<host::WritableSegment> SegmentOf(absl::string_view label, absl::string_view bytes,
                                                host::Reservation reservation) {
  ASSIGN_OR_RETURN(host::WritableSegment segment,
                   host::WritableSegment::Create(label, bytes.size(), std::move(reservation)));
  memcpy(segment.bytes().data(), bytes.data(), bytes.size());
  return segment;
}

// One load of one revision.
class Load {
 public:
  Load(source::Source& source, const EncodeIndex& encode_index, const LoaderOptions& options,
       const ResolvedModel& resolved, source::Source::PartSizes part_sizes,
       const source::ReadPolicy& policy, const std::optional<ModelKey>& key, Progress& progress,
       Cancellation& cancellation)
      : source_(source),
        encode_index_(encode_index),
        options_(options),
        resolved_(resolved),
        part_sizes_(part_sizes),
        policy_(policy),
        key_(key),
        progress_(progress),
        cancellation_(cancellation) {}

  // The whole path from a resolved model to a published one. What fails on the way frees what came
  // before it.
  absl::StatusOr<ResidentModel> Run(const MakeRoom& make_room) {
    // Headers, checked against the files' sizes; from them alone, where everything will lie. And
    // what the bytes have to be, the headers' included.
    progress_.bytes_done = 0;
    progress_.bytes_total = resolved_.total_bytes;
    progress_.phase = Phase::kResolving;
    ASSIGN_OR_RETURN(std::optional<ModelKey> key, Key());
    const HeadsOptions options = {.pins = Pinned(),
                                  .part_sizes = part_sizes_,
                                  .awaited = [this] { return progress_.awaited.load(); },
                                  .ctr_key = CtrKeyOf(key)};
    ASSIGN_OR_RETURN(Heads heads,
                     ReadHeads(source_, resolved_, options, policy_, make_room, cancellation_));
    Verifier verifier(resolved_.files, std::move(heads.expected), part_sizes_);
    std::vector<Digests::Header> hashed;
    for (uint32_t file = 0; file < heads.bytes.size(); ++file) {
      verifier.TakeHeader(file, heads.bytes[file]);
      hashed.push_back(HashHeader(heads.bytes[file], heads.headers[file]));
    }
    if (TotalSize(heads.bytes) <= kKeptHeaderBytes) {
      headers_ = std::move(heads.bytes);
    }
    std::vector<std::string>().swap(heads.bytes);
    ASSIGN_OR_RETURN(SegmentLayout layout, LayOut(resolved_.files, heads.headers));
    const std::vector<ByteRange> zeros = std::move(layout.zeros);
    ResidentModel model;
    model.index = DescribeModel(resolved_, absl::MakeSpan(heads.headers), std::move(layout));
    model.index.verified = verifier.Proof();
    model.digests = std::make_shared<Digests>(model.index, std::move(hashed));

    // What the files say of each tensor, and what opens them.
    TensorKeys keys(std::move(key), &make_room);
    TensorCheck tensors(resolved_.files, absl::MakeSpan(heads.headers), model.index.extents,
                        Policy(), &keys);
    RETURN_IF_ERROR(tensors.CheckKey());
    model.index.tensor_proof = tensors.most();
    const uint64_t encoded_bytes = encode_index_(model.index).size();

    // Room for all of it before the first byte of a weight moves.
    progress_.phase = Phase::kReserving;
    if (!tensors.holds_tensors()) {
      std::vector<format::FileHeader>().swap(heads.headers);
      heads.parsing.clear();
    }
    const uint64_t index_bytes = AlignUp(encoded_bytes, kPageBytes);
    const uint64_t heap_bytes = HeapBytes(model.index);
    const uint64_t segment_bytes = model.index.segment_bytes;
    ASSIGN_OR_RETURN(host::Reservation reservation,
                     make_room(segment_bytes + index_bytes + heap_bytes));
    host::Reservation index_reservation = reservation.Split(index_bytes);
    model.index_memory = reservation.Split(heap_bytes);
    model.index_memory.Settle();
    ASSIGN_OR_RETURN(host::WritableSegment segment,
                     host::WritableSegment::Create(Label(), segment_bytes, std::move(reservation)));

    // The bytes, each straight to its place, hashed and decrypted as they come.
    progress_.phase = Phase::kTransferring;
    RETURN_IF_ERROR(Transfer(segment, model.index.extents, verifier, tensors));
    Clear(segment, zeros);
    RETURN_IF_ERROR(cancellation_.status());

    // Nothing of ours writes any more: let nobody write.
    ASSIGN_OR_RETURN(model.weights, std::move(segment).Seal());
    model.index.tensor_proof = tensors.proof();
    const std::string encoded_index = encode_index_(model.index);
    model.encoded_index_bytes = encoded_index.size();
    ASSIGN_OR_RETURN(
        host::WritableSegment index_segment,
        SegmentOf(absl::StrCat(Label(), " index"), encoded_index, std::move(index_reservation)));
    ASSIGN_OR_RETURN(model.encoded_index, std::move(index_segment).Seal());
    progress_.phase = Phase::kDone;
    return model;
  }

  // Whether the bytes were found not to be what the source says they are.
  bool damaged() const { return damaged_; }

 private:
  Pins Pinned() const {
    const auto found = options_.pins.find(resolved_.uri.ToString());
    return found == options_.pins.end() ? Pins() : found->second;
  }

  VerifyPolicy Policy() const {
    const auto found = options_.verify.find(resolved_.uri.ToString());
    return found == options_.verify.end() ? options_.verify_by_default : found->second;
  }

  // What was given for this load goes before what the options name.
  absl::StatusOr<std::optional<ModelKey>> Key() const {
    if (key_.has_value()) {
      return key_;
    }
    return options_.key_of(resolved_.uri);
  }

  absl::Status Transfer(host::WritableSegment& segment, absl::Span<const Extent> extents,
                        Verifier& verifier, TensorCheck& tensors) {
    const std::vector<Extent> chunks = PlanTransfer(extents, options_.chunk_bytes);
    std::vector<source::ReadRequest> requests;
    requests.reserve(chunks.size());
    uint64_t total = 0;
    for (const Extent& chunk : chunks) {
      requests.push_back({&resolved_.files[chunk.file].version, chunk.bytes,
                          segment.bytes().data() + chunk.offset});
      total += chunk.bytes.size();
    }
    progress_.bytes_total = total;
    source::ReadObserver observer;
    observer.on_bytes = [this](uint64_t bytes) { progress_.bytes_done += bytes; };
    observer.awaited = [this] { return progress_.awaited.load(); };
    Arrivals arrivals(chunks);
    observer.on_request_done = [&arrivals](size_t index) { arrivals.OnChunk(index); };
    // Small pages are made faster ahead of the bytes, many in one call. Huge ones are made as the
    // first byte is copied to them, and are in the processor's cache when the others come.
    const bool populate = !(source_.copies() && segment.huge_pages());
    if (!populate) {
      observer.on_bytes = [this, &segment](uint64_t bytes) {
        const uint64_t before = progress_.bytes_done.fetch_add(bytes);
        const uint64_t steps = (before + bytes) / kPopulateStepBytes - before / kPopulateStepBytes;
        if (steps > 0) {  // seldom: it takes a lock
          segment.CountWritten(steps * kPopulateStepBytes);
        }
      };
    }

    // Stopped by whoever cancels the load, and by the populating thread.
    Cancellation transfer;
    const Cancellation::Registration link = cancellation_.OnCancel(
        [&transfer] { transfer.Cancel(Error(Reason::kCancelled, "stopped")); });
    std::byte* const begin = segment.bytes().data();
    verifier.Start(arrivals, begin, transfer);
    // Checksums of whole files are of what is still encrypted.
    const bool files_first = tensors.decrypts() && !verifier.idle();
    if (!files_first) {
      tensors.Start(arrivals, begin, transfer);
    }
    const Cancellation::Registration stop = transfer.OnCancel([&arrivals] { arrivals.Stop(); });
    absl::Status status;
    {
      std::optional<PopulateAhead> populating;
      if (populate) {
        populating.emplace(segment, transfer);
      }
      status = source_.Read(requests, policy_, observer, transfer);
      if (!status.ok()) {
        transfer.Cancel(status);
      }
    }
    progress_.phase = Phase::kSealing;
    absl::Status verified = verifier.Finish();
    damaged_ = verifier.damaged();
    if (verifier.in_doubt() && transfer.status().ok() &&
        HoldsInAskedParts(chunks, begin, verifier)) {
      damaged_ = false;
      verified = absl::OkStatus();
    }
    if (!verified.ok()) {
      arrivals.Stop();
    } else if (files_first) {
      tensors.Start(arrivals, begin, transfer);
    }
    const absl::Status checked = tensors.Finish();
    RETURN_IF_ERROR(cancellation_.status());
    RETURN_IF_ERROR(verified);
    RETURN_IF_ERROR(checked);
    return transfer.status();
  }

  // Asks for the sizes of parts, which `first` had inferred, and looks at the bytes, all of which
  // are in their place, once more: whether they are what `first` was to verify.
  bool HoldsInAskedParts(absl::Span<const Extent> chunks, const std::byte* segment,
                         const Verifier& first) {
    if (headers_.empty()) {
      return false;
    }
    constexpr auto kAsked = source::Source::PartSizes::kAsked;
    absl::StatusOr<std::vector<Expected>> expected =
        AskChecksums(source_, resolved_.files, kAsked, policy_, cancellation_);
    if (!expected.ok()) {
      return false;
    }
    std::copy_if(first.expected().begin(), first.expected().end(), std::back_inserter(*expected),
                 [](const Expected& one) { return one.by == Authority::kPin; });
    Verifier again(resolved_.files, *std::move(expected), kAsked);
    for (uint32_t file = 0; file < headers_.size(); ++file) {
      again.TakeHeader(file, headers_[file]);
    }
    Cancellation checking;
    Arrivals arrived(chunks);
    for (size_t i = 0; i < chunks.size(); ++i) {
      arrived.OnChunk(i);
    }
    const Cancellation::Registration stop = cancellation_.OnCancel([&arrived] { arrived.Stop(); });
    again.Start(arrived, segment, checking);
    return again.Finish().ok() && again.Proof() == first.Proof();
  }

  std::string Label() const {
    return absl::StrCat(resolved_.uri.Redacted(), "@",
                        resolved_.revision.hex().substr(0, kShortRevision));
  }

  source::Source& source_;
  const EncodeIndex& encode_index_;
  const LoaderOptions& options_;
  const ResolvedModel& resolved_;
  const source::Source::PartSizes part_sizes_;
  const source::ReadPolicy& policy_;
  const std::optional<ModelKey>& key_;
  Progress& progress_;
  Cancellation& cancellation_;
  // The files' headers; none if they are large.
  std::vector<std::string> headers_;
  bool damaged_ = false;
};

class Loader : public ModelLoader {
 public:
  Loader(const source::Registry* sources, EncodeIndex encode_index, LoaderOptions options)
      : sources_(sources), encode_index_(std::move(encode_index)), options_(options) {}

  absl::StatusOr<ResolvedModel> Resolve(const Uri& uri, const source::ReadPolicy& policy,
                                        Cancellation& cancellation) override {
    ASSIGN_OR_RETURN(source::Source* const source, sources_->For(uri));
    absl::StatusOr<ResolvedModel> resolved = ResolveModel(*source, uri, policy, cancellation);
    if (!resolved.ok()) {
      return Named(resolved.status(), uri);
    }
    return resolved;
  }

  absl::StatusOr<ResidentModel> Load(const ResolvedModel& resolved,
                                     const source::ReadPolicy& policy,
                                     const std::optional<ModelKey>& key, const MakeRoom& make_room,
                                     const Destinations& /*destinations*/, Progress& progress,
                                     Cancellation& cancellation) override {
    ASSIGN_OR_RETURN(source::Source* const source, sources_->For(resolved.uri));
    bool damaged = false;
    const auto load = [&](source::Source::PartSizes part_sizes) {
      pipeline::Load once(*source, encode_index_, options_, resolved, part_sizes, policy, key,
                          progress, cancellation);
      auto loaded = once.Run(make_room);
      damaged = once.damaged();
      return loaded;
    };
    absl::StatusOr<ResidentModel> model = load(source::Source::PartSizes::kInferred);
    if (damaged) {
      // On its way; or it is a composite of parts of unlike sizes, and its header too large to be
      // kept. Once more, taking nothing for granted.
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
