#include "daemon/pipeline/record_sums.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/printable_text.h"
#include "common/status.h"

namespace weightd::pipeline {
namespace {

source::ChecksumKind KindOf(format::RecordHash::Kind kind) {
  return kind == format::RecordHash::Kind::kCrc32 ? source::ChecksumKind::kCrc32
                                                  : source::ChecksumKind::kSha256;
}

// A CRC stands in a record with its least significant byte first.
std::string ValueOf(const format::RecordHash& hash) {
  return hash.kind == format::RecordHash::Kind::kCrc32
             ? std::string(hash.value.rbegin(), hash.value.rend())
             : hash.value;
}

}  // namespace

RecordSums::RecordSums(const format::TensorRecord& record, VerifyPolicy policy) {
  if (policy == VerifyPolicy::kNever) {
    return;
  }
  for (const format::RecordHash& hash : record.hashes) {
    sums_.push_back({KindOf(hash.kind), ValueOf(hash), nullptr});
  }
  std::sort(sums_.begin(), sums_.end(), [](const Sum& a, const Sum& b) { return a.kind < b.kind; });
  if (policy == VerifyPolicy::kFast) {
    // One that is cheap is enough; so is what encryption proves.
    sums_.resize(std::min(sums_.size(), size_t{record.boxes.has_value() ? 0u : 1u}));
  }
  for (Sum& sum : sums_) {
    sum.hasher = source::MakeHasher(sum.kind);
  }
  Update({reinterpret_cast<const std::byte*>(record.hashed_header.data()),
          record.hashed_header.size()});
}

bool RecordSums::Has(source::ChecksumKind kind) const {
  return std::any_of(sums_.begin(), sums_.end(),
                     [kind](const Sum& sum) { return sum.kind == kind; });
}

void RecordSums::Update(absl::Span<const std::byte> bytes) {
  for (Sum& sum : sums_) {
    sum.hasher->Update(bytes);
  }
}

absl::Status RecordSums::Check(absl::string_view tensor) {
  for (const Sum& sum : sums_) {
    const std::string found = sum.hasher->Finish();
    if (found != sum.expected) {
      return Error(Reason::kVerificationFailed,
                   absl::StrCat(tensor, ": its ", source::NameOf(sum.kind), " is ",
                                source::ShowDigest(found, 0), ", but the file says ",
                                source::ShowDigest(sum.expected, 0)),
                   "the file was damaged when it was written, stored or sent: make it anew");
    }
  }
  return absl::OkStatus();
}

std::string TensorInFile(absl::string_view file, const format::TensorEntry& tensor) {
  return absl::StrCat(file, ": tensor ", PrintableText(tensor.name), " at byte ",
                      tensor.bytes.begin);
}

}  // namespace weightd::pipeline
