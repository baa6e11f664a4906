#include "daemon/pipeline/layout.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
#include "common/printable_text.h"
#include "common/status.h"

namespace weightd::pipeline {
namespace {

// No sum of a segment's offsets comes near 2^64 below this.
constexpr uint64_t kMaxSegmentBytes = uint64_t{1} << 56;

// Whether every tensor lies aligned to its elements if the file's first byte comes to `base`. Empty
// tensors lie anywhere.
bool AlignedAt(uint64_t base, const format::FileHeader& header) {
  return std::all_of(header.tensors.begin(), header.tensors.end(),
                     [base](const format::TensorEntry& tensor) {
                       return tensor.bytes.empty() ||
                              (base + tensor.bytes.begin) % DTypeAlignment(tensor.dtype) == 0;
                     });
}

absl::Status TooLarge() {
  return Error(Reason::kMalformedModel, "the files' sizes exceed any machine's memory",
               "look at the server that says so");
}

class Placer {
 public:
  absl::Status Add(uint32_t file, uint64_t file_size, const format::FileHeader& header) {
    // Beside the file itself: what moving may add to each tensor, and alignment.
    const uint64_t slack = kTensorAlignment * (header.tensors.size() + 1) + 2 * kPageBytes;
    if (file_size > kMaxSegmentBytes || end_ + file_size + slack > kMaxSegmentBytes) {
      return TooLarge();
    }
    const uint64_t base = AlignUp(end_, kPageBytes);
    const bool stands_alone = !header.tensorizer.has_value();
    if (stands_alone && (header.tensors.empty() || AlignedAt(0, header))) {
      Place(file, {0, file_size}, base, header);
      return absl::OkStatus();
    }
    const ByteRange data{header.header_bytes, file_size};
    if (stands_alone && AlignedAt(kPageBytes - data.begin % kPageBytes, header)) {
      Place(file, data, base, header);
      return absl::OkStatus();
    }
    return Scatter(file, data, base, header);
  }

  absl::StatusOr<SegmentLayout> Finish(absl::Span<const ModelFile> files) && {
    layout_.segment_bytes = std::max(kPageBytes, AlignUp(end_, kPageBytes));
    std::sort(layout_.pieces.begin(), layout_.pieces.end(),
              [](const Piece& a, const Piece& b) { return a.name < b.name; });
    const auto twice =
        std::adjacent_find(layout_.pieces.begin(), layout_.pieces.end(),
                           [](const Piece& a, const Piece& b) { return a.name == b.name; });
    if (twice != layout_.pieces.end()) {
      const auto [first, second] = std::minmax(twice->file, std::next(twice)->file);
      return Error(Reason::kMalformedModel,
                   absl::StrCat("tensor ", PrintableText(twice->name), " is in two files, ",
                                PrintableText(files[first].name), " and ",
                                PrintableText(files[second].name)),
                   "name one of the files, or add the index that their writer made");
    }
    return std::move(layout_);
  }

 private:
  // All of `bytes` in one piece at `offset`, where they stay.
  void Place(uint32_t file, ByteRange bytes, uint64_t offset, const format::FileHeader& header) {
    AddExtent({file, bytes, offset});
    for (const format::TensorEntry& tensor : header.tensors) {
      const uint64_t place = offset + (tensor.bytes.begin - bytes.begin);
      AddPiece(file, tensor, tensor.bytes.empty() ? AlignDown(place, kTensorAlignment) : place);
    }
    end_ = offset + bytes.size();
  }

  // Each tensor of `bytes` to a multiple of 64 from `base` on, the rest behind them.
  absl::Status Scatter(uint32_t file, ByteRange bytes, uint64_t base,
                       const format::FileHeader& header) {
    std::vector<uint64_t> places;
    places.reserve(header.tensors.size());
    uint64_t to = base;
    for (const format::TensorEntry& tensor : header.tensors) {
      if (tensor.nbytes > kMaxSegmentBytes - to) {
        return TooLarge();
      }
      places.push_back(to);
      AddPiece(file, tensor, to);
      if (tensor.bytes.empty() && tensor.nbytes > 0) {
        layout_.zeros.push_back({to, to + tensor.nbytes});
      }
      to += AlignUp(tensor.nbytes, kTensorAlignment);
    }
    uint64_t at = bytes.begin;
    const auto put_rest = [&](uint64_t end) {
      AddExtent({file, {at, end}, to});
      to += end - at;
      at = end;
    };
    for (size_t i = 0; i < header.tensors.size(); ++i) {
      const ByteRange tensor = header.tensors[i].bytes;
      if (!tensor.empty()) {
        put_rest(tensor.begin);
        AddExtent({file, tensor, places[i]});
        at = tensor.end;
      }
    }
    put_rest(bytes.end);
    end_ = to;
    return absl::OkStatus();
  }

  // Joined with the last one if it goes on both in the file and in the segment.
  void AddExtent(const Extent& extent) {
    if (extent.bytes.empty()) {
      return;
    }
    if (!layout_.extents.empty()) {
      Extent& last = layout_.extents.back();
      if (last.file == extent.file && last.bytes.end == extent.bytes.begin &&
          last.offset + last.bytes.size() == extent.offset) {
        last.bytes.end = extent.bytes.end;
        return;
      }
    }
    layout_.extents.push_back(extent);
  }

  void AddPiece(uint32_t file, const format::TensorEntry& tensor, uint64_t offset) {
    layout_.pieces.push_back({.name = tensor.name,
                              .dtype = tensor.dtype,
                              .torch_type = tensor.torch_type,
                              .shape = tensor.shape,
                              .offset = offset,
                              .nbytes = tensor.nbytes,
                              .file = file});
  }

  SegmentLayout layout_;
  uint64_t end_ = 0;
};

}  // namespace

absl::StatusOr<SegmentLayout> LayOut(absl::Span<const ModelFile> files,
                                     absl::Span<const format::FileHeader> headers) {
  Placer placer;
  for (uint32_t file = 0; file < files.size(); ++file) {
    RETURN_IF_ERROR(placer.Add(file, files[file].version.size, headers[file]));
  }
  return std::move(placer).Finish(files);
}

uint64_t PlaceOf(absl::Span<const Extent> extents, uint32_t file, uint64_t offset) {
  const auto after =
      std::partition_point(extents.begin(), extents.end(), [&](const Extent& extent) {
        return std::tie(extent.file, extent.bytes.begin) <= std::tie(file, offset);
      });
  const Extent& extent = *std::prev(after);
  return extent.offset + (offset - extent.bytes.begin);
}

}  // namespace weightd::pipeline
