#include "daemon/pipeline/load.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status.h"
#include "daemon/format/header.h"
#include "daemon/host/staging_window.h"
#include "daemon/pipeline/describe.h"
#include "daemon/pipeline/device_layout.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/heads.h"
#include "daemon/pipeline/heap_use.h"
#include "daemon/pipeline/layout.h"
#include "daemon/pipeline/populate_ahead.h"
#include "daemon/pipeline/small_files.h"
#include "daemon/pipeline/tensor_check.h"
#include "daemon/pipeline/tensor_keys.h"
#include "daemon/pipeline/verify.h"

namespace weightd::pipeline {
namespace {

// Headers are kept beside the budget until the bytes are verified, unless they are larger.
constexpr size_t kKeptHeaderBytes = 1 << 20;

size_t TotalSize(absl::Span<const std::string> texts) {
  return std::accumulate(texts.begin(), texts.end(), size_t{0},
                         [](size_t total, const std::string& text) { return total + text.size(); });
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

}  // namespace

absl::StatusOr<ResidentModel> Load::Run(const MakeRoom& make_room,
                                        const Destinations& destinations) {
  // Headers, checked against the files' sizes; from them alone, where everything will lie. And
  // what the bytes have to be, the headers' included.
  progress_.bytes_done = 0;
  progress_.bytes_total = resolved_.total_bytes;
  progress_.phase = Phase::kResolving;
  ASSIGN_OR_RETURN(std::optional<ModelKey> key, Key());
  const LoadRules rules = options_.rules_of(resolved_.uri);
  const HeadsOptions options = {.pins = rules.pins,
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
  StreamLayout stream;
  if (!destinations.host) {
    stream = LayOutStream(model.index, HeaderBytesOf(heads.headers), zeros);
  }
  model.index.verified = verifier.Proof();
  model.digests = std::make_shared<Digests>(model.index, std::move(hashed));

  // What the files say of each tensor, and what opens them.
  TensorKeys keys(std::move(key), &make_room);
  const std::vector<Extent>& extents = destinations.host ? model.index.extents : stream.extents;
  TensorCheck tensors(resolved_.files, absl::MakeSpan(heads.headers), extents, rules.verify, &keys);
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
  model.small_file_bytes = TotalBytes(resolved_.small_files);
  const uint64_t small_bytes = AlignUp(model.small_file_bytes, kPageBytes);
  const StagedTransfer::Sizes window =
      StagedTransfer::SizesFor(stream.bytes, options_.staging_bytes, tensors.MostAtOnce());
  const uint64_t weight_bytes = destinations.host ? model.index.segment_bytes : window.window;
  ASSIGN_OR_RETURN(host::Reservation reservation,
                   make_room(weight_bytes + index_bytes + heap_bytes + small_bytes));
  host::Reservation index_reservation = reservation.Split(index_bytes);
  model.index_memory = reservation.Split(heap_bytes);
  model.index_memory.Settle();
  ASSIGN_OR_RETURN(model.small_files, SmallFiles(reservation.Split(small_bytes)));

  // The bytes, each straight to its place, hashed and decrypted as they come, and on to GPUs.
  Uploads uploads(options_.gpus, destinations);
  const TransferParts parts = {.source = source_,
                               .policy = policy_,
                               .files = resolved_.files,
                               .verifier = verifier,
                               .tensors = tensors,
                               .uploads = uploads,
                               .chunk_bytes = options_.chunk_bytes,
                               .progress = progress_,
                               .cancellation = cancellation_};
  RETURN_IF_ERROR(destinations.host
                      ? FillSegment(parts, std::move(reservation), zeros, model)
                      : Load::PassThrough(parts, std::move(reservation), stream, window, model));
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

absl::StatusOr<std::optional<ModelKey>> Load::Key() const {
  if (key_.has_value()) {
    return key_;
  }
  return options_.key_of(resolved_.uri);
}

absl::StatusOr<std::shared_ptr<host::HostSegment>> Load::SmallFiles(host::Reservation reservation) {
  source::ReadObserver observer;
  observer.awaited = [this] { return progress_.awaited.load(); };
  return ReadSmallFiles(source_, resolved_.small_files, absl::StrCat(Label(), " files"),
                        std::move(reservation), policy_, observer, cancellation_);
}

absl::Status Load::FillSegment(const TransferParts& parts, host::Reservation reservation,
                               absl::Span<const ByteRange> zeros, ResidentModel& model) {
  ASSIGN_OR_RETURN(
      host::WritableSegment segment,
      host::WritableSegment::Create(Label(), model.index.segment_bytes, std::move(reservation)));
  const auto drop = absl::MakeCleanup([&parts] { parts.uploads.Drop(); });
  parts.uploads.Begin(
      model.index.device_bytes, CopyRunsOf(model.index),
      {.open = [&segment] { return segment.OpenForDevice(); }, .bytes = segment.bytes().size()});
  progress_.phase = Phase::kTransferring;
  Transfer transfer(parts);
  const absl::Status transferred = transfer.Run(segment, model.index.extents, headers_);
  damaged_ = transfer.damaged();
  RETURN_IF_ERROR(transferred);
  Clear(segment, zeros);
  for (const ByteRange& range : zeros) {
    parts.uploads.Copy(range, range.begin);
  }
  RETURN_IF_ERROR(FinishUploads(parts.uploads, model));

  // Nothing of ours writes any more: let nobody write.
  ASSIGN_OR_RETURN(model.weights, std::move(segment).Seal());
  return absl::OkStatus();
}

absl::Status Load::PassThrough(const TransferParts& parts, host::Reservation reservation,
                               const StreamLayout& stream, StagedTransfer::Sizes sizes,
                               ResidentModel& model) {
  ASSIGN_OR_RETURN(host::StagingWindow window,
                   host::StagingWindow::Create(absl::StrCat(Label(), " staging"), stream.bytes,
                                               sizes.window, std::move(reservation)));
  const auto drop = absl::MakeCleanup([&parts] { parts.uploads.Drop(); });
  for (uint64_t begin = 0; begin < sizes.window; begin += kPopulateStepBytes) {
    RETURN_IF_ERROR(cancellation_.status());
    RETURN_IF_ERROR(window.Populate({begin, std::min(begin + kPopulateStepBytes, sizes.window)}));
  }
  parts.uploads.Begin(
      model.index.device_bytes, stream.runs,
      {.open = [&window] { return window.OpenForDevice(); }, .bytes = sizes.window, .pin = true});
  RETURN_IF_ERROR(parts.uploads.status());
  progress_.phase = Phase::kTransferring;
  StagedTransfer transfer(parts, stream, window, sizes);
  const absl::Status transferred = transfer.Run();
  damaged_ = transfer.damaged();
  RETURN_IF_ERROR(transferred);
  return FinishUploads(parts.uploads, model);
}

absl::Status Load::FinishUploads(Uploads& uploads, ResidentModel& model) {
  RETURN_IF_ERROR(cancellation_.status());
  if (!uploads.empty()) {
    progress_.phase = Phase::kCopying;
    RETURN_IF_ERROR(uploads.Finish(cancellation_, model));
    progress_.phase = Phase::kSealing;
  }
  return absl::OkStatus();
}

std::string Load::Label() const { return SegmentLabel(resolved_.uri, resolved_.revision); }

}  // namespace weightd::pipeline
