#include "daemon/pipeline/digests.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/source/sha256.h"

namespace weightd::pipeline {
namespace {

// How far behind a cancellation hashing may be.
constexpr uint64_t kStepBytes = 4 << 20;

void SortByFile(std::vector<Verified>& verified) {
  std::sort(verified.begin(), verified.end(), [](const Verified& a, const Verified& b) {
    return std::tie(a.file, a.by, a.kind) < std::tie(b.file, b.by, b.kind);
  });
}

// Where a file lies from `begin` on, in its order.
std::vector<ByteRange> PlacesOf(const ModelIndex& index, uint32_t file, uint64_t begin) {
  std::vector<ByteRange> places;
  for (const Extent& extent : index.extents) {
    if (extent.file == file && extent.bytes.end > begin) {
      const uint64_t skipped = std::max(begin, extent.bytes.begin) - extent.bytes.begin;
      places.push_back({extent.offset + skipped, extent.offset + extent.bytes.size()});
    }
  }
  return places;
}

}  // namespace

absl::StatusOr<std::vector<PinnedFile>> MatchPins(const Pins& pins,
                                                  absl::Span<const ModelFile> files) {
  if (pins.contains("") && files.size() != 1) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("the model has ", files.size(), " files, not one"),
                 "pin each by its name");
  }
  if (pins.empty()) {
    return std::vector<PinnedFile>();
  }
  // Once through the files, of which there may be many more than pins.
  std::vector<PinnedFile> pinned;
  absl::flat_hash_set<absl::string_view> matched = {""};
  for (uint32_t file = 0; file < files.size(); ++file) {
    if (const auto pin = pins.find(files[file].name); pin != pins.end()) {
      pinned.push_back({file, pin->second});
      matched.insert(pin->first);
    }
  }
  if (const auto pin = pins.find(""); pin != pins.end()) {
    pinned.push_back({0, pin->second});
  }
  for (const auto& [name, digest] : pins) {
    if (!matched.contains(name)) {
      return Error(Reason::kInvalidArgument,
                   absl::StrCat("a pin for ", name, ", which is no file of the model"),
                   "weightctl show lists the files");
    }
  }
  return pinned;
}

Digests::Digests(const ModelIndex& index, std::vector<Header> headers)
    : headers_(std::move(headers)), verified_(index.verified) {
  SortByFile(verified_);
  for (const Verified& verified : verified_) {
    if (verified.by == Authority::kPin) {
      pinned_.insert(verified.file);
    }
    if (verified.kind == source::ChecksumKind::kSha256 && verified.parts == 0) {
      known_[verified.file] = source::ShowDigest(verified.value, 0);
    }
  }
}

std::vector<Digests::SavedHeader> Digests::SaveHeaders() const {
  std::vector<SavedHeader> saved;
  saved.reserve(headers_.size());
  for (const Header& header : headers_) {
    saved.push_back(
        {.sha256 = header.sha256 == nullptr ? "" : header.sha256->Save(), .bytes = header.bytes});
  }
  return saved;
}

absl::StatusOr<std::vector<Digests::Header>> Digests::RestoreHeaders(
    absl::Span<const SavedHeader> saved) {
  std::vector<Header> headers;
  headers.reserve(saved.size());
  for (const SavedHeader& one : saved) {
    Header& header = headers.emplace_back();
    header.bytes = one.bytes;
    if (one.sha256.empty()) {
      continue;
    }
    header.sha256 = source::ResumeSha256(one.sha256);
    if (header.sha256 == nullptr) {
      return Error(Reason::kVerificationFailed, "the state of a SHA-256 is malformed");
    }
  }
  return headers;
}

absl::StatusOr<bool> Digests::Hold(absl::Span<const ModelFile> files, const Pins& pins) {
  ASSIGN_OR_RETURN(const std::vector<PinnedFile> pinned, MatchPins(pins, files));
  absl::MutexLock lock(&mutex_);
  bool all_known = true;
  for (const PinnedFile& pin : pinned) {
    const auto known = known_.find(pin.file);
    if (known == known_.end()) {
      all_known = false;
    } else if (known->second != pin.digest) {
      return Error(Reason::kVerificationFailed,
                   absl::StrCat(PrintableText(files[pin.file].name), ": its sha256 is ",
                                known->second, ", but the pin says ", pin.digest),
                   "check the pin, or find out who changed the file");
    }
  }
  if (!all_known) {
    return false;
  }
  const size_t before = verified_.size();
  for (const PinnedFile& pin : pinned) {
    if (pinned_.insert(pin.file).second) {
      verified_.push_back({.file = pin.file,
                           .kind = source::ChecksumKind::kSha256,
                           .value = absl::HexStringToBytes(pin.digest),
                           .parts = 0,
                           .by = Authority::kPin});
    }
  }
  if (verified_.size() > before) {
    SortByFile(verified_);
  }
  return true;
}

absl::Status Digests::Compute(const ModelIndex& index, const host::HostSegment& segment,
                              const Pins& pins, Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const std::vector<PinnedFile> pinned, MatchPins(pins, index.files));
  for (const PinnedFile& pin : pinned) {
    if (Knows(pin.file)) {
      continue;
    }
    const Header& header = headers_.at(pin.file);
    if (header.sha256 == nullptr) {
      return Error(Reason::kUnsupported,
                   absl::StrCat(index.files[pin.file].name,
                                ": it was decrypted, so its bytes can't be hashed any more"),
                   "pin it in the config: then it is compared while it is loaded");
    }
    const std::unique_ptr<source::Hasher> hasher = header.sha256->Clone();
    for (ByteRange rest : PlacesOf(index, pin.file, header.bytes)) {
      while (!rest.empty()) {
        RETURN_IF_ERROR(cancellation.status());
        const uint64_t size = std::min(rest.size(), kStepBytes);
        hasher->Update(segment.bytes().subspan(rest.begin, size));
        rest.begin += size;
      }
    }
    std::string digest = source::ShowDigest(hasher->Finish(), 0);
    absl::MutexLock lock(&mutex_);
    known_.emplace(pin.file, std::move(digest));
  }
  return absl::OkStatus();
}

std::vector<Verified> Digests::verified() const {
  absl::MutexLock lock(&mutex_);
  return verified_;
}

bool Digests::Knows(uint32_t file) const {
  absl::MutexLock lock(&mutex_);
  return known_.contains(file);
}

}  // namespace weightd::pipeline
