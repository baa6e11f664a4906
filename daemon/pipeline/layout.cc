#include "daemon/pipeline/layout.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/dtype.h"
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

class Placer {
 public:
  absl::Status Add(uint32_t file, uint64_t file_size, const format::FileHeader& header) {
    // Beside the file itself: what moving may add to each tensor, and alignment.
    const uint64_t slack = kTensorAlignment * (header.tensors.size() + 1) + 2 * kPageBytes;
    if (file_size > kMaxSegmentBytes || end_ + file_size + slack > kMaxSegmentBytes) {
      return Error(Reason::kMalformedModel, "the files' sizes exceed any machine's memory",
                   "look at the server that says so");
    }
    const uint64_t base = AlignUp(end_, kPageBytes);
    if (header.tensors.empty() || AlignedAt(0, header)) {
      Place(file, {0, file_size}, base, header);
      return absl::OkStatus();
    }
    const ByteRange data{header.tensors.front().bytes.begin, header.tensors.back().bytes.end};
    if (AlignedAt(kPageBytes - data.begin % kPageBytes, header)) {
      Place(file, data, base, header);
      return absl::OkStatus();
    }
    PlaceMoved(file, data, base, header);
    return absl::OkStatus();
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
                   absl::StrCat("tensor ", twice->name, " is in two files, ", files[first].name,
                                " and ", files[second].name),
                   "name one of the files, or add the index that their writer made");
    }
    return std::move(layout_);
  }

 private:
  // All of `bytes` in one piece at `offset`, where they stay.
  void Place(uint32_t file, ByteRange bytes, uint64_t offset, const format::FileHeader& header) {
    layout_.extents.push_back({file, bytes, offset});
    for (const format::TensorEntry& tensor : header.tensors) {
      const uint64_t place = offset + (tensor.bytes.begin - bytes.begin);
      AddPiece(file, tensor, tensor.bytes.empty() ? AlignDown(place, kTensorAlignment) : place);
    }
    end_ = offset + bytes.size();
  }

  void PlaceMoved(uint32_t file, ByteRange bytes, uint64_t base, const format::FileHeader& header) {
    uint64_t packed = 0;  // the tensors' bytes, each rounded up
    for (const format::TensorEntry& tensor : header.tensors) {
      packed += AlignUp(tensor.bytes.size(), kTensorAlignment);
    }
    // The room's end, so high that nothing needs to move up, and congruent to the file for
    // O_DIRECT.
    const uint64_t padding = packed > bytes.size() ? packed - bytes.size() : 0;
    const uint64_t offset = AlignUp(base + padding, kPageBytes) + bytes.begin % kPageBytes;
    layout_.extents.push_back({file, bytes, offset});
    uint64_t to = base;
    for (const format::TensorEntry& tensor : header.tensors) {
      AddPiece(file, tensor, to);
      if (!tensor.bytes.empty()) {
        layout_.moves.push_back(
            {offset + (tensor.bytes.begin - bytes.begin), to, tensor.bytes.size()});
        to += AlignUp(tensor.bytes.size(), kTensorAlignment);
      }
    }
    end_ = offset + bytes.size();
  }

  void AddPiece(uint32_t file, const format::TensorEntry& tensor, uint64_t offset) {
    layout_.pieces.push_back(
        {tensor.name, tensor.dtype, tensor.shape, offset, tensor.bytes.size(), file});
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

}  // namespace weightd::pipeline
