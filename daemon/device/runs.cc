#include "daemon/device/runs.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::device {
namespace {

ByteRange OnDevice(const CopyRun& run) {
  return {run.device_offset, run.device_offset + run.host.size()};
}

absl::Status Refused(const CopyRun& run, absl::string_view why) {
  return Error(Reason::kInternal,
               absl::StrCat("the run of bytes ", run.host.begin, " to ", run.host.end,
                            " to device ", run.device_offset, " ", why));
}

}  // namespace

uint64_t Piece::part_bytes() const {
  uint64_t sum = 0;
  for (const Part& part : parts) {
    sum += part.bytes;
  }
  return sum;
}

absl::StatusOr<Runs> Runs::Make(std::vector<CopyRun> list, uint64_t device_bytes) {
  Runs runs;
  for (const CopyRun& run : list) {
    if (run.host.begin > run.host.end || run.host.size() > device_bytes ||
        run.device_offset > device_bytes - run.host.size()) {
      return Refused(run, absl::StrCat("leaves a segment of ", device_bytes, " bytes"));
    }
    if (!run.host.empty()) {
      runs.runs_.push_back(run);
      runs.bytes_ += run.host.size();
    }
  }
  std::sort(runs.runs_.begin(), runs.runs_.end(),
            [](const CopyRun& a, const CopyRun& b) { return a.host.begin < b.host.begin; });
  runs.on_device_.resize(runs.runs_.size());
  std::iota(runs.on_device_.begin(), runs.on_device_.end(), size_t{0});
  std::sort(runs.on_device_.begin(), runs.on_device_.end(), [&runs](size_t a, size_t b) {
    return runs.runs_[a].device_offset < runs.runs_[b].device_offset;
  });
  runs.follows_.resize(runs.runs_.size());
  for (size_t i = 1; i < runs.runs_.size(); ++i) {
    if (runs.runs_[i].host.begin < runs.runs_[i - 1].host.end) {
      return Refused(runs.runs_[i], "shares host bytes with another");
    }
    const size_t before = runs.on_device_[i - 1];
    const size_t index = runs.on_device_[i];
    if (runs.runs_[index].device_offset < OnDevice(runs.runs_[before]).end) {
      return Refused(runs.runs_[index], "shares device bytes with another");
    }
    runs.follows_[index] = index == before + 1;
  }
  return runs;
}

Piece Runs::Cut(ByteRange& rest, uint64_t& source, uint64_t most) const {
  Piece piece;
  const auto first = std::partition_point(runs_.begin(), runs_.end(), [&rest](const CopyRun& run) {
    return run.host.end <= rest.begin;
  });
  for (size_t i = static_cast<size_t>(first - runs_.begin()); i < runs_.size(); ++i) {
    const CopyRun& run = runs_[i];
    const uint64_t begin = std::max(rest.begin, run.host.begin);
    if (begin >= rest.end) {
      break;
    }
    const uint64_t device = run.device_offset + (begin - run.host.begin);
    if (piece.parts.empty()) {
      piece.device_offset = device;
    } else if (!follows_[i] || device - piece.device_offset - piece.bytes > kLargestGap ||
               device - piece.device_offset >= most) {
      return piece;
    }
    const uint64_t at = device - piece.device_offset;
    const uint64_t bytes = std::min({rest.end, run.host.end, begin + (most - at)}) - begin;
    source += begin - rest.begin;
    piece.parts.push_back({.source = source, .at = at, .bytes = bytes});
    piece.bytes = at + bytes;
    source += bytes;
    rest.begin = begin + bytes;
    if (piece.bytes == most) {
      return piece;
    }
  }
  source += rest.size();
  rest.begin = rest.end;
  return piece;
}

std::vector<ByteRange> Runs::DeviceGaps(uint64_t device_bytes) const {
  std::vector<ByteRange> gaps;
  uint64_t end = 0;
  for (const size_t index : on_device_) {
    const ByteRange filled = OnDevice(runs_[index]);
    if (filled.begin > end) {
      gaps.push_back({end, filled.begin});
    }
    end = filled.end;
  }
  if (end < device_bytes) {
    gaps.push_back({end, device_bytes});
  }
  return gaps;
}

}  // namespace weightd::device
