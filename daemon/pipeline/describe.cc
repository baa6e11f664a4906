#include "daemon/pipeline/describe.h"

#include <cstddef>
#include <memory>
#include <utility>

#include "daemon/pipeline/device_layout.h"
#include "daemon/source/checksum.h"

namespace weightd::pipeline {

ModelIndex DescribeModel(const ResolvedModel& resolved, absl::Span<format::FileHeader> headers,
                         SegmentLayout layout) {
  ModelIndex index;
  index.uri = resolved.uri;
  index.revision = resolved.revision;
  index.files = resolved.files;
  index.index_file = resolved.index_file;
  index.small_files = resolved.small_files;
  index.pieces = std::move(layout.pieces);
  index.extents = std::move(layout.extents);
  for (format::FileHeader& header : headers) {
    index.metadata.merge(header.metadata);  // keeps what the first file said
  }
  index.segment_bytes = layout.segment_bytes;
  index.pinned_to_version = resolved.pinned_to_version;
  LayOutOnDevice(index);
  return index;
}

std::vector<uint64_t> HeaderBytesOf(absl::Span<const format::FileHeader> headers) {
  std::vector<uint64_t> bytes;
  bytes.reserve(headers.size());
  for (const format::FileHeader& header : headers) {
    bytes.push_back(header.header_bytes);
  }
  return bytes;
}

Digests::Header HashHeader(absl::string_view bytes, const format::FileHeader& header) {
  Digests::Header hashed = {.sha256 = nullptr, .bytes = bytes.size()};
  if (!header.encrypted()) {
    hashed.sha256 = source::MakeHasher(source::ChecksumKind::kSha256);
    hashed.sha256->Update({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
  }
  return hashed;
}

}  // namespace weightd::pipeline
