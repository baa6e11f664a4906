#include "daemon/convert/tensor_reader.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/secretbox.h"

namespace weightd::convert {
namespace {

// Large enough for disks and stores, small enough for several readers.
constexpr uint64_t kStepBytes = 8 << 20;
// A box is decrypted as a whole.
constexpr uint64_t kMostBoxBytes = 64 << 20;
// Hashed while it is in the processor's cache.
constexpr uint64_t kHashBytes = 256 << 10;

}  // namespace

TensorReader::TensorReader(const Input* input, pipeline::VerifyPolicy policy,
                           pipeline::TensorKeys* keys)
    : input_(*input), policy_(policy), keys_(*keys) {}

absl::StatusOr<absl::Span<std::byte>> TensorReader::Fetch(ByteRange range,
                                                          Cancellation& cancellation) {
  if (range.size() > buffer_bytes_) {
    buffer_bytes_ = std::max(range.size(), kStepBytes);
    buffer_.reset(new std::byte[buffer_bytes_]);  // not cleared
  }
  const source::ReadRequest request = {&input_.model.files[file_].version, range, buffer_.get()};
  RETURN_IF_ERROR(
      input_.source->Read({&request, 1}, input_.policy, source::ReadObserver(), cancellation));
  return absl::MakeSpan(buffer_.get(), range.size());
}

absl::StatusOr<uint16_t> TensorReader::Open(uint32_t file, const format::TensorEntry& tensor,
                                            Cancellation& cancellation) {
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

absl::StatusOr<TensorFinding> TensorReader::Read(Take take, Cancellation& cancellation) {
  TensorFinding finding;
  std::unique_ptr<pipeline::RecordSums> sums;
  uint64_t step = kStepBytes;
  if (record_ != nullptr) {
    sums = std::make_unique<pipeline::RecordSums>(*record_, policy_);
    finding = {.crc32 = sums->Has(source::ChecksumKind::kCrc32),
               .sha256 = sums->Has(source::ChecksumKind::kSha256),
               .poly1305 = record_->boxes.has_value()};
    if (record_->boxes.has_value()) {
      const uint64_t box = record_->boxes->box_bytes;
      step = std::max(box, kStepBytes / box * box);
    }
  }
  const ByteRange all = tensor_->bytes;
  for (uint64_t at = all.begin; at < all.end; at += step) {
    const ByteRange range = {at, std::min(at + step, all.end)};
    ASSIGN_OR_RETURN(const absl::Span<std::byte> bytes, Fetch(range, cancellation));
    RETURN_IF_ERROR(Decrypt(at - all.begin, bytes));
    for (uint64_t done = 0; done < bytes.size() && sums != nullptr; done += kHashBytes) {
      sums->Update(bytes.subspan(done, kHashBytes));
    }
    RETURN_IF_ERROR(take(bytes));
  }
  if (sums != nullptr) {
    RETURN_IF_ERROR(sums->Check(pipeline::TensorInFile(input_.model.files[file_].name, *tensor_)));
  }
  return finding;
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
      // Nothing was decrypted yet: rather the key than the bytes is wrong.
      const bool suspect_key = index == 0;
      return Error(suspect_key ? Reason::kKeyRefused : Reason::kVerificationFailed,
                   absl::StrCat(pipeline::TensorInFile(input_.model.files[file_].name, *tensor_),
                                ": piece ", index, " of its encrypted bytes ",
                                suspect_key ? "was not made with this key, or was changed since"
                                            : "was changed"),
                   suspect_key ? "look whether this is the key or password of this file"
                               : "the file was damaged or tampered with: make it anew");
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::convert
