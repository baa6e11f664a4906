#include "daemon/pipeline/stream_layout.h"

#include <algorithm>

#include "daemon/pipeline/device_layout.h"

namespace weightd::pipeline {
namespace {

// Where bytes of the host segment lie in the stream.
struct Place {
  ByteRange host;
  uint64_t stream = 0;
};

std::vector<Place> PlacesOf(const ModelIndex& index, absl::Span<const ByteRange> zeros,
                            const StreamLayout& stream) {
  std::vector<Place> places;
  places.reserve(index.extents.size() + zeros.size());
  // Where byte 0 of each file would lie; offsets wrap, and come back with the file's own.
  std::vector<uint64_t> bases(index.files.size(), 0);
  for (const Extent& extent : stream.extents) {
    bases[extent.file] = extent.offset - extent.bytes.begin;
  }
  for (const Extent& extent : index.extents) {
    places.push_back({{extent.offset, extent.offset + extent.bytes.size()},
                      bases[extent.file] + extent.bytes.begin});
  }
  uint64_t zero = stream.zeros.begin;
  for (const ByteRange& range : zeros) {
    places.push_back({range, zero});
    zero += range.size();
  }
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return a.host.begin < b.host.begin; });
  return places;
}

// `runs` of the host segment, cut and moved to where their bytes lie in the stream.
std::vector<device::CopyRun> Moved(absl::Span<const device::CopyRun> runs,
                                   absl::Span<const Place> places) {
  std::vector<device::CopyRun> moved;
  auto place = places.begin();
  for (const device::CopyRun& run : runs) {
    while (place != places.end() && place->host.end <= run.host.begin) {
      ++place;
    }
    for (auto part = place; part != places.end() && part->host.begin < run.host.end; ++part) {
      const uint64_t begin = std::max(run.host.begin, part->host.begin);
      const uint64_t end = std::min(run.host.end, part->host.end);
      const uint64_t stream = part->stream + (begin - part->host.begin);
      moved.push_back(
          {{stream, stream + (end - begin)}, run.device_offset + (begin - run.host.begin)});
    }
  }
  std::sort(moved.begin(), moved.end(), [](const device::CopyRun& a, const device::CopyRun& b) {
    return a.host.begin < b.host.begin;
  });
  return moved;
}

}  // namespace

StreamLayout LayOutStream(const ModelIndex& index, absl::Span<const uint64_t> header_bytes,
                          absl::Span<const ByteRange> zeros) {
  StreamLayout stream;
  uint64_t end = 0;
  for (uint32_t file = 0; file < index.files.size(); ++file) {
    const ByteRange bytes = {header_bytes[file], index.files[file].version.size};
    if (!bytes.empty()) {
      const uint64_t offset = AlignUp(end, kPageBytes) + bytes.begin % kPageBytes;
      stream.extents.push_back({file, bytes, offset});
      end = offset + bytes.size();
    }
  }
  stream.zeros = {end, end};
  for (const ByteRange& range : zeros) {
    stream.zeros.end += range.size();
  }
  stream.bytes = stream.zeros.end;
  stream.runs = Moved(CopyRunsOf(index), PlacesOf(index, zeros, stream));
  return stream;
}

}  // namespace weightd::pipeline
