#include "daemon/pipeline/transfer.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "common/status.h"
#include "daemon/pipeline/arrivals.h"
#include "daemon/pipeline/layout.h"
#include "daemon/pipeline/plan.h"
#include "daemon/pipeline/populate_ahead.h"

namespace weightd::pipeline {

std::vector<source::ReadRequest> RequestsOf(absl::Span<const Extent> chunks,
                                            absl::Span<const ModelFile> files, std::byte* begin) {
  std::vector<source::ReadRequest> requests;
  requests.reserve(chunks.size());
  for (const Extent& chunk : chunks) {
    requests.push_back({&files[chunk.file].version, chunk.bytes, begin + chunk.offset});
  }
  return requests;
}

absl::Status Transfer::Run(host::WritableSegment& segment, absl::Span<const Extent> extents,
                           absl::Span<const std::string> headers) {
  const std::vector<Extent> chunks = PlanTransfer(extents, parts_.chunk_bytes);
  uint64_t total = 0;
  for (const Extent& chunk : chunks) {
    total += chunk.bytes.size();
  }
  Progress& progress = parts_.progress;
  progress.bytes_total = total;

  // Stopped by whoever cancels the load, and by the populating thread.
  Cancellation transfer;
  const Cancellation::Registration link = parts_.cancellation.OnCancel(
      [&transfer] { transfer.Cancel(Error(Reason::kCancelled, "stopped")); });
  Arrivals arrivals(chunks);
  const Cancellation::Registration stop = transfer.OnCancel([&arrivals] { arrivals.Stop(); });
  source::ReadObserver observer;
  observer.on_bytes = [&progress](uint64_t bytes) { progress.bytes_done += bytes; };
  observer.awaited = [&progress] { return progress.awaited.load(); };
  const auto upload = [this](uint64_t place, uint64_t bytes) {
    parts_.uploads.Copy({place, place + bytes}, place);
  };
  observer.on_request_done = [&](size_t index) {
    const Extent& chunk = chunks[index];
    if (!parts_.tensors.decrypts(chunk.file)) {
      upload(chunk.offset, chunk.bytes.size());
    }
    arrivals.OnChunk(index);
  };
  TensorCheck::Observer decrypting;
  decrypting.on_decrypted = [&](uint32_t file, ByteRange bytes) {
    upload(PlaceOf(extents, file, bytes.begin), bytes.size());
  };

  std::byte* const begin = segment.bytes().data();
  parts_.verifier.Start(arrivals, begin, transfer);
  // Checksums of whole files are of what is still encrypted.
  const bool files_first = parts_.tensors.decrypts() && !parts_.verifier.idle();
  if (!files_first) {
    parts_.tensors.Start(arrivals, begin, transfer, decrypting);
  }
  Read(segment, chunks, std::move(observer), transfer);
  progress.phase = Phase::kSealing;
  absl::Status verified = parts_.verifier.Finish();
  damaged_ = parts_.verifier.damaged();
  if (parts_.verifier.in_doubt() && transfer.status().ok() &&
      HoldsInAskedParts(chunks, begin, headers)) {
    damaged_ = false;
    verified = absl::OkStatus();
  }
  if (!verified.ok()) {
    arrivals.Stop();
  } else if (files_first) {
    parts_.tensors.Start(arrivals, begin, transfer, decrypting);
  }
  const absl::Status checked = parts_.tensors.Finish();
  RETURN_IF_ERROR(parts_.cancellation.status());
  RETURN_IF_ERROR(verified);
  RETURN_IF_ERROR(checked);
  return transfer.status();
}

void Transfer::Read(host::WritableSegment& segment, absl::Span<const Extent> chunks,
                    source::ReadObserver observer, Cancellation& transfer) {
  // Small pages are made faster ahead of the bytes, many in one call. Huge ones are made as the
  // first byte is copied to them, and are in the processor's cache when the others come.
  const bool populate = !(parts_.source.copies() && segment.huge_pages());
  if (!populate) {
    observer.on_bytes = [this, &segment](uint64_t bytes) {
      const uint64_t before = parts_.progress.bytes_done.fetch_add(bytes);
      const uint64_t steps = (before + bytes) / kPopulateStepBytes - before / kPopulateStepBytes;
      if (steps > 0) {  // seldom: it takes a lock
        segment.CountWritten(steps * kPopulateStepBytes);
      }
    };
  }
  std::optional<PopulateAhead> populating;
  if (populate) {
    populating.emplace(segment, transfer);
  }
  const std::vector<source::ReadRequest> requests =
      RequestsOf(chunks, parts_.files, segment.bytes().data());
  const absl::Status status = parts_.source.Read(requests, parts_.policy, observer, transfer);
  if (!status.ok()) {
    transfer.Cancel(status);
  }
}

bool Transfer::HoldsInAskedParts(absl::Span<const Extent> chunks, const std::byte* segment,
                                 absl::Span<const std::string> headers) {
  if (headers.empty()) {
    return false;
  }
  constexpr auto kAsked = source::Source::PartSizes::kAsked;
  absl::StatusOr<std::vector<Expected>> expected =
      AskChecksums(parts_.source, parts_.files, kAsked, parts_.policy, parts_.cancellation);
  if (!expected.ok()) {
    return false;
  }
  const Verifier& first = parts_.verifier;
  std::copy_if(first.expected().begin(), first.expected().end(), std::back_inserter(*expected),
               [](const Expected& one) { return one.by == Authority::kPin; });
  Verifier again(parts_.files, *std::move(expected), kAsked);
  for (uint32_t file = 0; file < headers.size(); ++file) {
    again.TakeHeader(file, headers[file]);
  }
  Cancellation checking;
  Arrivals arrived(chunks);
  for (size_t i = 0; i < chunks.size(); ++i) {
    arrived.OnChunk(i);
  }
  const Cancellation::Registration stop =
      parts_.cancellation.OnCancel([&arrived] { arrived.Stop(); });
  again.Start(arrived, segment, checking);
  return again.Finish().ok() && again.Proof() == first.Proof();
}

}  // namespace weightd::pipeline
