#include "daemon/source/http/http_piece.h"

#include <algorithm>
#include <cstring>

namespace weightd::source {

ReadTally::ReadTally(absl::Span<const ReadRequest> requests, const ReadObserver* observer)
    : observer_(observer), left_(requests.size()) {
  for (size_t i = 0; i < requests.size(); ++i) {
    left_[i] = requests[i].range.size();
    if (requests[i].range.empty()) {
      observer_->on_request_done(i);
    }
  }
}

void ReadTally::Arrived(size_t request, uint64_t bytes) {
  observer_->on_bytes(bytes);
  const uint64_t left = left_[request] -= bytes;
  if (left == 0) {
    observer_->on_request_done(request);
  }
}

void Piece::Take(uint64_t offset, absl::Span<const char> bytes, ReadTally& tally) {
  const ByteRange fresh = {std::max(offset, arrived_until_),
                           std::min(offset + bytes.size(), range_.end)};
  if (fresh.begin >= fresh.end) {
    return;
  }
  arrived_until_ = fresh.end;
  for (size_t i = first_open_part_; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (part.range.begin >= fresh.end) {
      break;
    }
    const ByteRange hit = {std::max(part.range.begin, fresh.begin),
                           std::min(part.range.end, fresh.end)};
    if (hit.begin < hit.end) {
      std::memcpy(part.destination + (hit.begin - part.range.begin),
                  bytes.data() + (hit.begin - offset), hit.size());
      tally.Arrived(part.request, hit.size());
    }
  }
  CloseParts();
}

absl::Span<std::byte> Piece::Space() {
  if (first_open_part_ >= parts_.size()) {
    return {};
  }
  const Part& part = parts_[first_open_part_];
  const bool last = first_open_part_ + 1 == parts_.size();
  if (arrived_until_ < part.range.begin ||
      (!last && parts_[first_open_part_ + 1].range.begin < part.range.end)) {
    return {};
  }
  return {part.destination + (arrived_until_ - part.range.begin), part.range.end - arrived_until_};
}

void Piece::Took(uint64_t bytes, ReadTally& tally) {
  arrived_until_ += bytes;
  tally.Arrived(parts_[first_open_part_].request, bytes);
  CloseParts();
}

void Piece::CloseParts() {
  while (first_open_part_ < parts_.size() && parts_[first_open_part_].range.end <= arrived_until_) {
    ++first_open_part_;
  }
}

}  // namespace weightd::source
