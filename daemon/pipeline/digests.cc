#include "daemon/pipeline/digests.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/status.h"

namespace weightd::pipeline {
namespace {

// How far behind a cancellation hashing may be.
constexpr uint64_t kStepBytes = 4 << 20;

bool IsPin(const Verified& verified, const PinnedFile& pin) {
  return verified.file == pin.file && verified.by == Authority::kPin;
}

// Where a file's tensors lie, in the file's order: whatever the layout, that is the segment's.
std::vector<ByteRange> TensorsOf(const ModelIndex& index, uint32_t file) {
  std::vector<ByteRange> ranges;
  for (const Piece& piece : index.pieces) {
    if (piece.file == file && piece.nbytes > 0) {
      ranges.push_back({piece.offset, piece.offset + piece.nbytes});
    }
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  return ranges;
}

}  // namespace

absl::StatusOr<std::vector<PinnedFile>> MatchPins(const Pins& pins,
                                                  absl::Span<const ModelFile> files) {
  std::vector<PinnedFile> pinned;
  for (const auto& [name, digest] : pins) {
    if (name.empty()) {
      if (files.size() != 1) {
        return Error(Reason::kInvalidArgument,
                     absl::StrCat("the model has ", files.size(), " files, not one"),
                     "pin each by its name");
      }
      pinned.push_back({0, digest});
      continue;
    }
    const auto found = std::find_if(files.begin(), files.end(),
                                    [&](const ModelFile& file) { return file.name == name; });
    if (found == files.end()) {
      return Error(Reason::kInvalidArgument,
                   absl::StrCat("a pin for ", name, ", which is no file of the model"),
                   "weightctl show lists the files");
    }
    pinned.push_back({static_cast<uint32_t>(found - files.begin()), digest});
  }
  return pinned;
}

Digests::Digests(const ModelIndex& index, std::vector<std::unique_ptr<source::Hasher>> headers)
    : headers_(std::move(headers)), verified_(index.verified) {
  for (const Verified& verified : verified_) {
    if (verified.kind == source::ChecksumKind::kSha256 && verified.parts == 0) {
      known_[verified.file] = source::ShowDigest(verified.value, 0);
    }
  }
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
                   absl::StrCat(files[pin.file].name, ": its sha256 is ", known->second,
                                ", but the pin says ", pin.digest),
                   "check the pin, or find out who changed the file");
    }
  }
  if (!all_known) {
    return false;
  }
  for (const PinnedFile& pin : pinned) {
    if (std::none_of(verified_.begin(), verified_.end(),
                     [&](const Verified& verified) { return IsPin(verified, pin); })) {
      const auto after = std::find_if(verified_.begin(), verified_.end(),
                                      [&](const Verified& other) { return other.file > pin.file; });
      verified_.insert(after, {.file = pin.file,
                               .kind = source::ChecksumKind::kSha256,
                               .value = absl::HexStringToBytes(pin.digest),
                               .parts = 0,
                               .by = Authority::kPin});
    }
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
    const std::unique_ptr<source::Hasher> hasher = headers_.at(pin.file)->Clone();
    for (ByteRange rest : TensorsOf(index, pin.file)) {
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
