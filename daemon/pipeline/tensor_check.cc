#include "daemon/pipeline/tensor_check.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/format/secretbox.h"
#include "daemon/pipeline/layout.h"

namespace weightd::pipeline {
namespace {

// More would take the node's cores from the models that are served.
constexpr size_t kMostThreads = 4;
// Hashed while it is in the processor's cache, and as far as a thread is behind a cancellation.
constexpr uint64_t kStepBytes = 1 << 20;
// How many tensors are tried with a key that doesn't open the first one, and how large a box.
constexpr size_t kMostTried = 8;
constexpr uint64_t kMostTriedBytes = 64 << 20;
constexpr size_t kMacBytes = 16;

}  // namespace

TensorCheck::TensorCheck(absl::Span<const ModelFile> files, absl::Span<format::FileHeader> headers,
                         absl::Span<const Extent> extents, VerifyPolicy policy, TensorKeys* keys)
    : files_(files), extents_(extents), policy_(policy), keys_(keys), ctr_files_(headers, extents) {
  for (uint32_t file = 0; file < headers.size(); ++file) {
    traits_.push_back(headers[file].tensorizer);
    if (headers[file].tensorizer.has_value()) {
      for (format::TensorEntry& tensor : headers[file].tensors) {
        tasks_.push_back({file, std::move(tensor)});
      }
    }
  }
}

TensorCheck::~TensorCheck() {
  if (!threads_.empty()) {
    arrivals_->Stop();
    Join();
  }
}

absl::Status TensorCheck::CheckKey() const {
  for (uint32_t file = 0; file < traits_.size(); ++file) {
    if (decrypts(file) && !keys_->given()) {
      return Error(Reason::kKeyMissing,
                   absl::StrCat(files_[file].name, " is encrypted, and there is no key for it"),
                   "name its key's or password's file under `keys` in the config, or give it with "
                   "weightctl preload --key");
    }
  }
  if (keys_->given() && !decrypts()) {
    return Error(Reason::kKeyRefused,
                 "there is a key for this model, but none of its files is encrypted",
                 "preload it without a key, take it out of `keys` in the config, or find out who "
                 "stored it in clear");
  }
  for (uint32_t file = 0; file < traits_.size(); ++file) {
    if (keys_->ctr().has_value() && decrypts(file) && !ctr_files_.Has(file)) {
      return Error(Reason::kKeyRefused,
                   absl::StrCat(files_[file].name,
                                " is encrypted as tensorizer does it, and the "
                                "key for it is one of AES-CTR"),
                   "leave `cipher` out of its entry under `keys` in the config");
    }
  }
  const std::optional<uint32_t> unproved = ctr_files_.first();
  if (policy_ == VerifyPolicy::kFull && unproved.has_value()) {
    return Error(Reason::kVerificationFailed,
                 absl::StrCat(files_[*unproved].name,
                              " is encrypted with AES-CTR, which doesn't prove its bytes, and "
                              "every tensor is to be verified"),
                 "say `verify: fast` for this model, or write it anew as an encrypted tensorizer "
                 "file");
  }
  return absl::OkStatus();
}

bool TensorCheck::decrypts(uint32_t file) const {
  return ctr_files_.Has(file) || (traits_[file].has_value() && traits_[file]->encrypted);
}

bool TensorCheck::decrypts() const {
  for (uint32_t file = 0; file < traits_.size(); ++file) {
    if (decrypts(file)) {
      return true;
    }
  }
  return false;
}

uint64_t TensorCheck::MostAtOnce() const {
  uint64_t most = ctr_files_.pieces().empty() ? 0 : CtrFiles::kStepBytes;
  for (const Task& task : tasks_) {
    const ByteRange header = task.tensor.record->header;
    const uint64_t sealed = decrypts(task.file) ? task.tensor.bytes.size() : 0;
    most = std::max(most, header.size() + sealed);
  }
  return most;
}

void TensorCheck::Start(Arrivals& arrivals, std::byte* segment, Cancellation& transfer,
                        Observer observer) {
  arrivals_ = &arrivals;
  segment_ = segment;
  transfer_ = &transfer;
  observer_ = std::move(observer);
  jobs_ = Jobs();
  const size_t threads = std::min(kMostThreads, jobs_.size());
  queue_.Open(
      jobs_.size(), threads, [this](size_t i) { return jobs_[i].begin; }, observer_.on_progress);
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i] { Work(i); });
  }
}

std::vector<TensorCheck::Job> TensorCheck::Jobs() const {
  std::vector<Job> jobs;
  jobs.reserve(tasks_.size() + ctr_files_.pieces().size());
  for (size_t i = 0; i < tasks_.size(); ++i) {
    jobs.push_back({{tasks_[i].file, tasks_[i].tensor.record->header.begin}, true, i});
  }
  for (size_t i = 0; i < ctr_files_.pieces().size(); ++i) {
    const Extent& piece = ctr_files_.pieces()[i];
    jobs.push_back({{piece.file, piece.bytes.begin}, false, i});
  }
  std::sort(jobs.begin(), jobs.end(), [](const Job& a, const Job& b) { return a.begin < b.begin; });
  return jobs;
}

absl::Status TensorCheck::Finish() {
  Join();
  if (transfer_ == nullptr) {
    return absl::OkStatus();
  }
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(failure_);
  }
  return transfer_->status();
}

TensorProof TensorCheck::most() const {
  const uint64_t all = tasks_.size();
  return {.crc32 = all,
          .sha256 = all,
          .poly1305 = all,
          .unverified = all,
          .unauthenticated = ctr_files_.tensors()};
}

TensorProof TensorCheck::proof() const {
  return {.crc32 = crc32_,
          .sha256 = sha256_,
          .poly1305 = poly1305_,
          .unverified = unverified_,
          .unauthenticated = ctr_files_.tensors()};
}

void TensorCheck::Work(size_t thread) {
  absl::call_once(key_tried_, [this] {
    if (const absl::Status tried = TryKey(); !tried.ok()) {
      Fail(tried);
    }
  });
  while (const std::optional<size_t> i = queue_.Take(thread)) {
    if (arrivals_->stopped()) {
      return;
    }
    if (const absl::Status done = Do(thread, jobs_[*i]); !done.ok()) {
      Fail(done);
    }
  }
}

absl::Status TensorCheck::Do(size_t thread, const Job& job) {
  if (job.is_task) {
    return Check(thread, tasks_[job.index]);
  }
  const std::optional<format::CtrKey> key = keys_->ctr();
  if (!key.has_value()) {
    return Error(Reason::kInternal, "bytes of AES-CTR without a key");
  }
  const Extent& piece = ctr_files_.pieces()[job.index];
  return ctr_files_.Decrypt(key->key, piece, *arrivals_, segment_,
                            [&](ByteRange bytes) { Pass(thread, piece.file, bytes); });
}

void TensorCheck::Pass(size_t thread, uint32_t file, ByteRange bytes) {
  if (decrypts(file)) {
    observer_.on_decrypted(file, bytes);
  }
  queue_.Advance(thread, {file, bytes.end});
}

absl::Status TensorCheck::Check(size_t thread, const Task& task) {
  if (!arrivals_->AwaitAll(task.file, task.tensor.record->header)) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const format::TensorRecord record, RecordOf(task));
  RecordSums sums(record, policy_);
  RETURN_IF_ERROR(Count(task, record, sums));
  RETURN_IF_ERROR(record.boxes.has_value() ? OpenBoxes(thread, task, record, sums)
                                           : TakeBytes(thread, task, sums));
  if (arrivals_->stopped()) {
    return absl::OkStatus();
  }
  return sums.Check(TensorInFile(NameOf(task), task.tensor));
}

absl::StatusOr<format::TensorRecord> TensorCheck::RecordOf(const Task& task) {
  const ByteRange header = task.tensor.record->header;
  const std::byte* const bytes = segment_ + PlaceOf(extents_, task.file, header.begin);
  return format::ParseTensorRecord(NameOf(task),
                                   {reinterpret_cast<const char*>(bytes), header.size()},
                                   task.tensor, *traits_[task.file]);
}

absl::Status TensorCheck::Count(const Task& task, const format::TensorRecord& record,
                                const RecordSums& sums) {
  poly1305_ += record.boxes.has_value() ? 1 : 0;
  crc32_ += sums.Has(source::ChecksumKind::kCrc32) ? 1 : 0;
  sha256_ += sums.Has(source::ChecksumKind::kSha256) ? 1 : 0;
  if (sums.empty() && !record.boxes.has_value()) {
    if (policy_ == VerifyPolicy::kFull) {
      return Error(Reason::kVerificationFailed,
                   absl::StrCat(TensorInFile(NameOf(task), task.tensor),
                                " has no checksum, and every tensor is to be verified"),
                   "say `verify: fast` for this model, or write it anew with checksums");
    }
    ++unverified_;
  }
  return absl::OkStatus();
}

absl::Status TensorCheck::TakeBytes(size_t thread, const Task& task, RecordSums& sums) {
  const absl::Span<std::byte> bytes = BytesOf(task);
  // Whoever waits to hear of an encrypted file's tensors hears of those too that are in clear.
  if (sums.empty() && !decrypts(task.file)) {
    return absl::OkStatus();
  }
  for (uint64_t at = 0; at < bytes.size();) {
    const uint64_t offset = task.tensor.bytes.begin + at;
    const Extent* const chunk = arrivals_->Await(task.file, offset);
    if (chunk == nullptr) {
      return absl::OkStatus();
    }
    const uint64_t size = std::min({bytes.size() - at, chunk->bytes.end - offset, kStepBytes});
    sums.Update(bytes.subspan(at, size));
    Pass(thread, task.file, {offset, offset + size});
    at += size;
  }
  return absl::OkStatus();
}

absl::Status TensorCheck::OpenBoxes(size_t thread, const Task& task,
                                    const format::TensorRecord& record, RecordSums& sums) {
  ASSIGN_OR_RETURN(const format::SecretKey key, keys_->For(record, *transfer_));
  const absl::Span<std::byte> bytes = BytesOf(task);
  const uint64_t count = format::BoxCount(*record.boxes, bytes.size());
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t begin = i * record.boxes->box_bytes;
    const uint64_t end = std::min<uint64_t>(begin + record.boxes->box_bytes, bytes.size());
    const uint64_t first = task.tensor.bytes.begin;
    if (!arrivals_->AwaitAll(task.file, {first + begin, first + end})) {
      return absl::OkStatus();
    }
    if (!format::OpenBox(key, *record.boxes, i, bytes.subspan(begin, end - begin))) {
      return Error(Reason::kVerificationFailed,
                   absl::StrCat(TensorInFile(NameOf(task), task.tensor), ": piece ", i,
                                " of its encrypted bytes was changed"),
                   "the file was damaged or tampered with since it was encrypted: make it anew");
    }
    sums.Update(bytes.subspan(begin, end - begin));
    Pass(thread, task.file, {first + begin, first + end});
  }
  return absl::OkStatus();
}

absl::Status TensorCheck::TryKey() {
  if (!decrypts() || keys_->ctr().has_value()) {
    return absl::OkStatus();
  }
  const auto within_reach = [this](uint32_t file, ByteRange bytes) {
    return PlaceOf(extents_, file, bytes.begin) + bytes.size() <= observer_.reach;
  };
  size_t tried = 0;
  for (const Task& task : tasks_) {
    const ByteRange bytes = task.tensor.bytes;
    const ByteRange header = task.tensor.record->header;
    if (tried == kMostTried || !within_reach(task.file, header) ||
        !arrivals_->AwaitAll(task.file, header)) {
      break;
    }
    ASSIGN_OR_RETURN(const format::TensorRecord record, RecordOf(task));
    if (!record.boxes.has_value()) {
      continue;
    }
    const uint64_t size = std::min(record.boxes->box_bytes, bytes.size());
    if (size > kMostTriedBytes || bytes.empty() ||
        !within_reach(task.file, {bytes.begin, bytes.begin + size}) ||
        !arrivals_->AwaitAll(task.file, {bytes.begin, bytes.begin + size})) {
      continue;
    }
    ++tried;
    ASSIGN_OR_RETURN(const format::SecretKey key, keys_->For(record, *transfer_));
    const absl::Span<std::byte> first = BytesOf(task).subspan(0, size);
    std::vector<std::byte> copy(first.begin(), first.end());
    format::SealedBoxes one = *record.boxes;
    one.macs.resize(kMacBytes);
    if (format::OpenBox(key, one, 0, absl::MakeSpan(copy))) {
      return absl::OkStatus();
    }
  }
  if (tried == 0) {
    return absl::OkStatus();
  }
  return Error(Reason::kKeyRefused,
               absl::StrCat("its tensors were not encrypted with this ",
                            keys_->password() ? "password" : "key", ", or all of the first ", tried,
                            " were changed since"),
               "look in the config which file `keys` names for this model");
}

void TensorCheck::Fail(const absl::Status& failure) {
  {
    absl::MutexLock lock(&mutex_);
    failure_.Update(failure);
  }
  transfer_->Cancel(failure);
  arrivals_->Stop();
}

absl::Span<std::byte> TensorCheck::BytesOf(const Task& task) const {
  const ByteRange bytes = task.tensor.bytes;
  if (bytes.empty()) {
    return {};
  }
  return {segment_ + PlaceOf(extents_, task.file, bytes.begin), bytes.size()};
}

void TensorCheck::Join() {
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

}  // namespace weightd::pipeline
