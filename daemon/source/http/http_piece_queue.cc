#include "daemon/source/http/http_piece_queue.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "daemon/source/http/connection_policy.h"

namespace weightd::source {
namespace {

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

PieceQueue::PieceQueue(absl::Span<const ReadRequest> requests, uint64_t largest, ReadTally* tally)
    : requests_(requests), largest_(largest), tally_(tally) {
  absl::flat_hash_map<const ObjectVersion*, std::vector<size_t>> without_ranges;
  size_t ranges = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].object->ranges) {
      const uint64_t bytes = requests[i].range.size();
      rest_ += bytes;
      ranges += bytes <= RangeBytes(bytes, ConnectionCount::kFirst, largest) ? bytes > 0 : 2;
    } else if (!requests[i].range.empty()) {
      without_ranges[requests[i].object].push_back(i);
    }
  }
  for (auto& [object, indices] : without_ranges) {
    whole_.push_back(WholeObject(object, requests, std::move(indices)));
  }
  single_ = ranges + whole_.size() <= 1;
}

Exchange* PieceQueue::Next(int connections) {
  absl::MutexLock lock(&mutex_);
  while (request_ < requests_.size() &&
         (!requests_[request_].object->ranges || cut_ == requests_[request_].range.size())) {
    ++request_;
    cut_ = 0;
  }
  if (request_ < requests_.size()) {
    return &pieces_.emplace_back(Take(RangeBytes(rest_, connections, largest_)), tally_).read;
  }
  if (whole_.empty()) {
    return nullptr;
  }
  Exchange* const whole = &pieces_.emplace_back(std::move(whole_.back()), tally_).read;
  whole_.pop_back();
  return whole;
}

Piece PieceQueue::Take(uint64_t bytes) {
  const ObjectVersion* const object = requests_[request_].object;
  const uint64_t begin = requests_[request_].range.begin + cut_;
  Piece piece(object, {begin, begin});
  while (bytes > 0 && request_ < requests_.size()) {
    const ReadRequest& request = requests_[request_];
    if (request.object != object || request.range.begin + cut_ != piece.range().end) {
      break;
    }
    const uint64_t part = std::min(bytes, request.range.size() - cut_);
    if (part > 0) {
      piece.Append(request_, part, request.destination + cut_);
    }
    bytes -= part;
    rest_ -= part;
    cut_ += part;
    if (cut_ == request.range.size()) {
      ++request_;
      cut_ = 0;
    }
  }
  return piece;
}

}  // namespace weightd::source
