#include "daemon/pipeline/staged_transfer.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <thread>
#include <utility>

#include "common/status.h"
#include "daemon/pipeline/job_queue.h"
#include "daemon/pipeline/layout.h"
#include "daemon/pipeline/plan.h"

namespace weightd::pipeline {
namespace {

constexpr uint64_t kBatchesInWindow = 4;
// While one ends, the next one keeps the source's connections busy.
constexpr size_t kReaders = 2;
// In a batch, for the same reason.
constexpr uint64_t kChunksInBatch = 8;

FilePosition EndOf(const Extent& chunk) { return {chunk.file, chunk.bytes.end}; }

}  // namespace

StagedTransfer::Sizes StagedTransfer::SizesFor(uint64_t stream_bytes, uint64_t wanted,
                                               uint64_t at_once) {
  const uint64_t usual = std::max(std::min(wanted, stream_bytes), kPageBytes);
  const uint64_t batch = AlignUp((usual + kBatchesInWindow - 1) / kBatchesInWindow, kPageBytes);
  // What has to be there at once begins and ends anywhere in a batch.
  const uint64_t more = at_once <= batch ? 0 : AlignUp(at_once, kHugePageBytes);
  return {.window = kBatchesInWindow * batch + more, .batch = batch};
}

StagedTransfer::StagedTransfer(const TransferParts& parts, const StreamLayout& stream,
                               host::StagingWindow& window, Sizes sizes)
    : parts_(parts),
      stream_(stream),
      window_(window),
      batch_bytes_(sizes.batch),
      chunks_(
          PlanTransfer(stream.extents, std::min(parts.chunk_bytes, sizes.batch / kChunksInBatch))),
      batches_(Batches()),
      arrivals_(chunks_),
      hashed_(chunks_),
      files_first_(parts.tensors.decrypts() && !parts.verifier.idle()),
      reach_(window.window().end),
      there_(chunks_.size(), false) {}

std::vector<StagedTransfer::Batch> StagedTransfer::Batches() const {
  std::vector<Batch> batches;
  for (size_t i = 0; i < chunks_.size(); ++i) {
    const uint64_t begin = chunks_[i].offset;
    const uint64_t end = begin + chunks_[i].bytes.size();
    if (batches.empty() || end - batches.back().bytes.begin > batch_bytes_) {
      batches.push_back({i, i, {begin, begin}});
    }
    batches.back().last = i + 1;
    batches.back().bytes.end = end;
  }
  return batches;
}

absl::Status StagedTransfer::Run() {
  uint64_t total = 0;
  for (const Extent& chunk : chunks_) {
    total += chunk.bytes.size();
  }
  parts_.progress.bytes_total = total;
  const Cancellation::Registration link = parts_.cancellation.OnCancel(
      [this] { transfer_.Cancel(Error(Reason::kCancelled, "stopped")); });
  const Cancellation::Registration stop = transfer_.OnCancel([this] {
    arrivals_.Stop();
    hashed_.Stop();
    TellNews();
  });
  StartLooking();
  std::vector<std::thread> readers;
  readers.reserve(kReaders);
  for (size_t i = 0; i < kReaders; ++i) {
    readers.emplace_back([this] { ReadBatches(); });
  }
  const absl::Status slid = SlideOver();
  if (!slid.ok()) {
    transfer_.Cancel(slid);
  }
  for (std::thread& reader : readers) {
    reader.join();
  }
  const absl::Status verified = parts_.verifier.Finish();
  if (!verified.ok()) {
    transfer_.Cancel(verified);
  }
  const absl::Status checked = parts_.tensors.Finish();
  RETURN_IF_ERROR(parts_.cancellation.status());
  RETURN_IF_ERROR(verified);
  RETURN_IF_ERROR(checked);
  RETURN_IF_ERROR(transfer_.status());
  return SendZeros();
}

void StagedTransfer::StartLooking() {
  parts_.verifier.Start(arrivals_, window_.begin(), transfer_, [this] {
    PassHashed();
    TellNews();
  });
  TensorCheck::Observer observer;
  observer.on_decrypted = [this](uint32_t file, ByteRange bytes) {
    const uint64_t begin = PlaceOf(stream_.extents, file, bytes.begin);
    Copy({begin, begin + bytes.size()});
  };
  observer.on_progress = [this] { TellNews(); };
  // A byte before comes with a batch that fits before the window slides.
  observer.reach = window_.bytes() - batch_bytes_;
  parts_.tensors.Start(files_first_ ? hashed_ : arrivals_, window_.begin(), transfer_,
                       std::move(observer));
}

void StagedTransfer::ReadBatches() {
  for (size_t i = next_batch_++; i < batches_.size(); i = next_batch_++) {
    const Batch& batch = batches_[i];
    for (uint32_t seen = news_; batch.bytes.end > reach_; seen = news_) {
      if (!AwaitNews(seen)) {
        return;
      }
    }
    if (const absl::Status read = ReadBatch(batch); !read.ok()) {
      transfer_.Cancel(read);
      return;
    }
  }
}

absl::Status StagedTransfer::ReadBatch(const Batch& batch) {
  Progress& progress = parts_.progress;
  source::ReadObserver observer;
  observer.on_bytes = [&progress](uint64_t bytes) { progress.bytes_done += bytes; };
  observer.awaited = [&progress] { return progress.awaited.load(); };
  observer.on_request_done = [this, &batch](size_t index) { OnChunk(batch.first + index); };
  const auto chunks = absl::MakeSpan(chunks_).subspan(batch.first, batch.last - batch.first);
  return parts_.source.Read(RequestsOf(chunks, parts_.files, window_.begin()), parts_.policy,
                            observer, transfer_);
}

void StagedTransfer::OnChunk(size_t index) {
  const Extent& chunk = chunks_[index];
  if (!parts_.tensors.decrypts(chunk.file)) {
    Copy({chunk.offset, chunk.offset + chunk.bytes.size()});
  }
  {
    absl::MutexLock lock(&mutex_);
    there_[index] = true;
  }
  arrivals_.OnChunk(index);
  PassHashed();
  TellNews();
}

void StagedTransfer::PassHashed() {
  if (!files_first_) {
    return;
  }
  absl::MutexLock lock(&mutex_);
  const FilePosition through = parts_.verifier.Through();
  while (next_hashed_ < chunks_.size() && there_[next_hashed_] &&
         EndOf(chunks_[next_hashed_]) <= through) {
    hashed_.OnChunk(next_hashed_++);
  }
}

void StagedTransfer::Copy(ByteRange stream) {
  while (!stream.empty()) {
    const uint64_t place = stream.begin % window_.bytes();
    const uint64_t size = std::min(stream.size(), window_.bytes() - place);
    Uploads::Copies copies = parts_.uploads.Copy({stream.begin, stream.begin + size}, place);
    if (!copies.empty()) {
      absl::MutexLock lock(&mutex_);
      copies_.emplace(stream.begin, std::move(copies));
    }
    stream.begin += size;
  }
}

absl::Status StagedTransfer::SlideOver() {
  for (size_t i = 0; i < batches_.size(); ++i) {
    for (uint32_t seen = news_; !Through(batches_[i]); seen = news_) {
      if (!AwaitNews(seen)) {
        return transfer_.status();
      }
    }
    RETURN_IF_ERROR(AwaitCopies(batches_[i].bytes.end));
    const bool last = i + 1 == batches_.size();
    RETURN_IF_ERROR(window_.SlideTo(last ? stream_.zeros.begin : batches_[i + 1].bytes.begin));
    reach_ = window_.window().end;
    TellNews();
  }
  return absl::OkStatus();
}

bool StagedTransfer::Through(const Batch& batch) const {
  {
    absl::MutexLock lock(&mutex_);
    const auto first = there_.begin() + static_cast<std::ptrdiff_t>(batch.first);
    const auto last = there_.begin() + static_cast<std::ptrdiff_t>(batch.last);
    if (std::find(first, last, false) != last) {
      return false;
    }
  }
  const FilePosition end = EndOf(chunks_[batch.last - 1]);
  return parts_.verifier.Through() >= end && parts_.tensors.Through() >= end;
}

absl::Status StagedTransfer::AwaitCopies(uint64_t end) {
  std::vector<Uploads::Copies> waiting;
  {
    absl::MutexLock lock(&mutex_);
    const auto last = copies_.lower_bound(end);
    for (auto copy = copies_.begin(); copy != last; ++copy) {
      waiting.push_back(std::move(copy->second));
    }
    copies_.erase(copies_.begin(), last);
  }
  for (const Uploads::Copies& copies : waiting) {
    RETURN_IF_ERROR(parts_.uploads.Await(copies, transfer_));
  }
  return absl::OkStatus();
}

absl::Status StagedTransfer::SendZeros() {
  for (uint64_t begin = stream_.zeros.begin; begin < stream_.zeros.end;) {
    const uint64_t end = std::min(begin + batch_bytes_, stream_.zeros.end);
    memset(window_.begin() + begin, 0, end - begin);
    Copy({begin, end});
    RETURN_IF_ERROR(AwaitCopies(end));
    RETURN_IF_ERROR(window_.SlideTo(end));
    begin = end;
  }
  return parts_.cancellation.status();
}

bool StagedTransfer::AwaitNews(uint32_t seen) {
  if (!arrivals_.stopped()) {
    news_.wait(seen);
  }
  return !arrivals_.stopped();
}

void StagedTransfer::TellNews() {
  ++news_;
  news_.notify_all();
}

}  // namespace weightd::pipeline
