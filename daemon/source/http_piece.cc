#include "daemon/source/http_piece.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"

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
  while (first_open_part_ < parts_.size() && parts_[first_open_part_].range.end <= arrived_until_) {
    ++first_open_part_;
  }
}

absl::Span<std::byte> Piece::Space() {
  if (parts_.size() != 1 || parts_.front().range != range_) {
    return {};
  }
  return {parts_.front().destination + arrived(), rest().size()};
}

void Piece::Took(uint64_t bytes, ReadTally& tally) {
  arrived_until_ += bytes;
  tally.Arrived(parts_.front().request, bytes);
}

namespace {

void CutRequest(const ReadRequest& request, size_t index, uint64_t chunk_bytes,
                std::vector<Piece>& pieces) {
  for (uint64_t at = request.range.begin; at < request.range.end;) {
    const ByteRange range = {at, std::min(at + chunk_bytes, request.range.end)};
    Piece& piece = pieces.emplace_back(request.object, range);
    piece.Add(index, range, request.destination + (at - request.range.begin));
    at = range.end;
  }
}

Piece WholeObject(const ObjectVersion* object, absl::Span<const ReadRequest> requests,
                  std::vector<size_t> indices) {
  std::sort(indices.begin(), indices.end(),
            [&](size_t a, size_t b) { return requests[a].range.begin < requests[b].range.begin; });
  uint64_t end = 0;
  for (const size_t i : indices) {
    end = std::max(end, requests[i].range.end);
  }
  Piece piece(object, {0, end});
  for (const size_t i : indices) {
    piece.Add(i, requests[i].range, requests[i].destination);
  }
  return piece;
}

}  // namespace

std::vector<Piece> CutPieces(absl::Span<const ReadRequest> requests, uint64_t chunk_bytes) {
  std::vector<Piece> pieces;
  absl::flat_hash_map<const ObjectVersion*, std::vector<size_t>> without_ranges;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].range.empty()) {
      continue;
    }
    if (requests[i].object->ranges) {
      CutRequest(requests[i], i, chunk_bytes, pieces);
    } else {
      without_ranges[requests[i].object].push_back(i);
    }
  }
  for (auto& [object, indices] : without_ranges) {
    pieces.push_back(WholeObject(object, requests, std::move(indices)));
  }
  return pieces;
}

}  // namespace weightd::source
