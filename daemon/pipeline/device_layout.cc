#include "daemon/pipeline/device_layout.h"

#include <algorithm>
#include <cstddef>

#include "common/byte_range.h"

namespace weightd::pipeline {
namespace {

// Indices of the pieces that have bytes, in the order of the host segment.
std::vector<size_t> InPlaceOrder(const std::vector<Piece>& pieces) {
  std::vector<size_t> order;
  order.reserve(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].nbytes > 0) {
      order.push_back(i);
    }
  }
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return pieces[a].offset < pieces[b].offset; });
  return order;
}

}  // namespace

void LayOutOnDevice(ModelIndex& index) {
  for (Piece& piece : index.pieces) {
    piece.device_offset = 0;
  }
  ByteRange group;
  uint64_t group_on_device = 0;
  for (const size_t i : InPlaceOrder(index.pieces)) {
    Piece& piece = index.pieces[i];
    if (piece.offset >= group.end) {
      group_on_device = AlignUp(group_on_device + group.size(), kDeviceAlignment);
      group = {piece.offset, piece.offset};
    }
    group.end = std::max(group.end, piece.offset + piece.nbytes);
    piece.device_offset = group_on_device + (piece.offset - group.begin);
  }
  index.device_bytes =
      std::max(kDeviceAlignment, AlignUp(group_on_device + group.size(), kDeviceAlignment));
}

std::vector<device::CopyRun> CopyRunsOf(const ModelIndex& index) {
  std::vector<device::CopyRun> runs;
  for (const size_t i : InPlaceOrder(index.pieces)) {
    const Piece& piece = index.pieces[i];
    const uint64_t end = piece.offset + piece.nbytes;
    if (!runs.empty()) {
      device::CopyRun& last = runs.back();
      if (piece.offset <= last.host.end &&
          piece.device_offset - last.device_offset == piece.offset - last.host.begin) {
        last.host.end = std::max(last.host.end, end);
        continue;
      }
    }
    runs.push_back({{piece.offset, end}, piece.device_offset});
  }
  return runs;
}

}  // namespace weightd::pipeline
