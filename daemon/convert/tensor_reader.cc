#include "daemon/convert/tensor_reader.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/secretbox.h"

namespace weightd::convert {
namespace {

// Large enough for disks and stores, small enough for several readers.
constexpr uint64_t kStepBytes = 8 << 20;
// What Take's bytes are a multiple of.
constexpr uint64_t kUnitBytes = 64;
// A box is decrypted as a whole.
constexpr uint64_t kMostBoxBytes = 64 << 20;
// Hashed while it is in the processor's cache.
constexpr uint64_t kHashBytes = 256 << 10;

}  // namespace

TensorReader::TensorReader(const Input* input, pipeline::VerifyPolicy policy,
                           pipeline::TensorKeys* keys, absl::Mutex* large)
    : input_(*input), policy_(policy), keys_(*keys), large_(*large) {}

absl::Status TensorReader::ReadAhead(uint32_t file, ByteRange bytes, Cancellation& cancellation) {
  file_ = file;
  held_ = {};
  return Fill({bytes.begin, std::min(bytes.end, bytes.begin + kStepBytes)}, cancellation);
}

absl::StatusOr<absl::Span<std::byte>> TensorReader::Fetch(ByteRange range,
                                                          Cancellation& cancellation) {
  if (!held_.Contains(range)) {
    RETURN_IF_ERROR(Fill(range, cancellation));
  }
  held_.begin = range.end;
  return absl::MakeSpan(buffer_.get() + (range.begin - buffer_begin_), range.size());
}

absl::Status TensorReader::Fill(ByteRange range, Cancellation& cancellation) {
  const ByteRange had = std::exchange(held_, {});
  ByteRange missing = range;
  if (range.size() > buffer_bytes_) {
    buffer_.reset();  // before there is another
    buffer_bytes_ = std::max(range.size(), kStepBytes);
    buffer_.reset(new std::byte[buffer_bytes_]);  // not cleared
  } else if (!had.empty() && had.begin == range.begin && had.end <= range.end) {
    std::memmove(buffer_.get(), buffer_.get() + (had.begin - buffer_begin_), had.size());
    missing.begin = had.end;
  }
  if (!missing.empty()) {
    const source::ReadRequest request = {&input_.model.files[file_].version, missing,
                                         buffer_.get() + (missing.begin - range.begin)};
    RETURN_IF_ERROR(
        input_.source->Read({&request, 1}, input_.policy, source::ReadObserver(), cancellation));
  }
  buffer_begin_ = range.begin;
  held_ = range;
  return absl::OkStatus();
}

void TensorReader::DropLargeBuffer() {
  if (buffer_bytes_ > kStepBytes) {
    held_ = {};
    buffer_.reset();
    buffer_bytes_ = 0;
  }
}

absl::StatusOr<uint16_t> TensorReader::Open(uint32_t file, const format::TensorEntry& tensor,
                                            Cancellation& cancellation) {
  if (file != file_) {
    held_ = {};
  }
  file_ = file;
  tensor_ = &tensor;
  record_ = nullptr;
  if (!tensor.record.has_value()) {
    return 0;
  }
  ASSIGN_OR_RETURN(const absl::Span<std::byte> header, Fetch(tensor.record->header, cancellation));
  ASSIGN_OR_RETURN(
      format::TensorRecord record,
      format::ParseTensorRecord(input_.model.files[file].name,
                                {reinterpret_cast<const char*>(header.data()), header.size()},
                                tensor, *input_.headers[file].tensorizer));
  record_ = std::make_unique<format::TensorRecord>(std::move(record));
  if (record_->boxes.has_value()) {
    ASSIGN_OR_RETURN(key_, keys_.For(*record_, cancellation));
    if (record_->boxes->box_bytes > kMostBoxBytes) {
      return Error(Reason::kUnsupported,
                   absl::StrCat(pipeline::TensorInFile(input_.model.files[file].name, tensor),
                                " is encrypted in pieces of ", record_->boxes->box_bytes,
                                " bytes, each of which has to be in memory at once"),
                   "write it anew, in pieces as tensorizer makes them");
    }
  }
  return record_->module;
}

absl::StatusOr<bool> TensorReader::KeyOpens(Cancellation& cancellation) {
  if (record_ == nullptr || !record_->boxes.has_value()) {
    return true;
  }
  const format::SealedBoxes& boxes = *record_->boxes;
  const ByteRange all = tensor_->bytes;
  ASSIGN_OR_RETURN(
      const absl::Span<std::byte> box,
      Fetch({all.begin, std::min(all.end, all.begin + boxes.box_bytes)}, cancellation));
  return format::OpenBox(key_, boxes, 0, box);
}

absl::StatusOr<TensorFinding> TensorReader::Read(Take take, Cancellation& cancellation) {
  TensorFinding finding;
  std::unique_ptr<pipeline::RecordSums> sums;
  uint64_t unit = kUnitBytes;
  if (record_ != nullptr) {
    sums = std::make_unique<pipeline::RecordSums>(*record_, policy_);
    finding = {.crc32 = sums->Has(source::ChecksumKind::kCrc32),
               .sha256 = sums->Has(source::ChecksumKind::kSha256),
               .poly1305 = record_->boxes.has_value()};
    if (record_->boxes.has_value()) {
      unit = record_->boxes->box_bytes;
    }
  }
  absl::Mutex* const large = unit > kStepBytes ? &large_ : nullptr;
  const absl::MutexLockMaybe alone(large);
  const absl::Cleanup shrink = [this] { DropLargeBuffer(); };
  const ByteRange all = tensor_->bytes;
  for (uint64_t at = all.begin; at < all.end;) {
    const ByteRange range = {at, at + NextStep(at, unit)};
    ASSIGN_OR_RETURN(const absl::Span<std::byte> bytes, Fetch(range, cancellation));
    RETURN_IF_ERROR(Decrypt(at - all.begin, bytes));
    for (uint64_t done = 0; done < bytes.size() && sums != nullptr; done += kHashBytes) {
      sums->Update(bytes.subspan(done, kHashBytes));
    }
    RETURN_IF_ERROR(take(bytes));
    at = range.end;
  }
  if (sums != nullptr) {
    RETURN_IF_ERROR(sums->Check(pipeline::TensorInFile(input_.model.files[file_].name, *tensor_)));
  }
  return finding;
}

// What is held, as far as that is whole units; else as many of them as a step has, at least one.
uint64_t TensorReader::NextStep(uint64_t at, uint64_t unit) const {
  const uint64_t left = tensor_->bytes.end - at;
  const uint64_t held = held_.begin == at ? std::min(held_.size(), left) : 0;
  if (held == left) {
    return left;
  }
  const uint64_t step = held >= unit ? held : std::max(unit, kStepBytes);
  return std::min(left, step / unit * unit);
}

// `bytes` are whole boxes of the tensor, from its byte number `first` on.
absl::Status TensorReader::Decrypt(uint64_t first, absl::Span<std::byte> bytes) {
  if (const auto& ctr = input_.headers[file_].ctr; ctr.has_value()) {
    const uint64_t offset = tensor_->bytes.begin + first - ctr->begin;
    return format::ApplyAesCtr(keys_.ctr()->key, ctr->iv, offset, bytes);
  }
  if (record_ == nullptr || !record_->boxes.has_value()) {
    return absl::OkStatus();
  }
  const format::SealedBoxes& boxes = *record_->boxes;
  for (uint64_t at = 0; at < bytes.size(); at += boxes.box_bytes) {
    const uint64_t index = (first + at) / boxes.box_bytes;
    if (!format::OpenBox(key_, boxes, index, bytes.subspan(at, boxes.box_bytes))) {
      return Error(Reason::kVerificationFailed,
                   absl::StrCat(pipeline::TensorInFile(input_.model.files[file_].name, *tensor_),
                                ": piece ", index, " of its encrypted bytes was changed"),
                   "the file was damaged or tampered with since it was encrypted: make it anew");
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::convert
