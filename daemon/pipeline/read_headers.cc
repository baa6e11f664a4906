#include "daemon/pipeline/read_headers.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/format/veturboio.h"

namespace weightd::pipeline {
namespace {

constexpr uint64_t kFirstBytes = 256 << 10;
// Bounds what first parts take: 16 MiB, or 32 of encrypted files.
constexpr size_t kFilesAtOnce = 64;
constexpr uint64_t kClearHeaderShare = 16;

source::ReadRequest RequestInto(const ModelFile& file, ByteRange range, char* destination) {
  return {&file.version, range, reinterpret_cast<std::byte*>(destination)};
}

// Of `range` of a file that begins with `first`, what counts.
uint64_t CountedBytes(absl::string_view first, ByteRange range) {
  const bool clear_header = range.end == format::kVeturboioHeaderBytes &&
                            absl::StartsWith(first, format::kVeturboioMagic);
  return clear_header ? range.size() / kClearHeaderShare : range.size();
}

absl::StatusOr<std::vector<std::string>> ReadFirstParts(source::Source& source,
                                                        absl::Span<const ModelFile> files,
                                                        uint64_t first_bytes,
                                                        const source::ReadPolicy& policy,
                                                        const source::ReadObserver& observer,
                                                        Cancellation& cancellation) {
  std::vector<std::string> parts;
  std::vector<source::ReadRequest> requests;
  parts.reserve(files.size());
  for (const ModelFile& file : files) {
    parts.emplace_back(std::min(file.version.size, first_bytes), '\0');
    if (!parts.back().empty()) {
      requests.push_back(RequestInto(file, {0, parts.back().size()}, parts.back().data()));
    }
  }
  RETURN_IF_ERROR(source.Read(requests, policy, observer, cancellation));
  return parts;
}

absl::Status TooLong(const ModelFile& file, uint64_t max_header_bytes) {
  return Error(Reason::kMalformedModel,
               absl::StrCat(PrintableText(file.name),
                            ": with its header, the headers of this model have more than ",
                            max_header_bytes, " bytes"),
               "no real model has as much metadata: ask whoever wrote these files");
}

}  // namespace

absl::StatusOr<std::vector<format::FileHeader>> ReadHeaders(source::Source& source,
                                                            absl::Span<const ModelFile> files,
                                                            const source::ReadPolicy& policy,
                                                            Cancellation& cancellation,
                                                            const HeaderOptions& options) {
  std::vector<format::FileHeader> headers;
  uint64_t header_bytes = 0;
  source::ReadObserver observer;
  observer.awaited = options.awaited;
  const uint64_t first_bytes =
      kFirstBytes + (options.ctr_key.has_value() ? format::kVeturboioHeaderBytes : 0);
  headers.reserve(files.size());
  for (size_t begin = 0; begin < files.size(); begin += kFilesAtOnce) {
    const auto batch = files.subspan(begin, kFilesAtOnce);
    ASSIGN_OR_RETURN(const std::vector<std::string> firsts,
                     ReadFirstParts(source, batch, first_bytes, policy, observer, cancellation));
    for (size_t i = 0; i < batch.size(); ++i) {
      const std::string& first = firsts[i];
      const auto read = [&](ByteRange range) -> absl::StatusOr<std::string> {
        header_bytes += CountedBytes(first, range);
        if (header_bytes > options.max_bytes) {
          return TooLong(batch[i], options.max_bytes);
        }
        if (options.make_room) {
          RETURN_IF_ERROR(options.make_room(header_bytes));
        }
        const uint64_t known = std::min<uint64_t>(range.end, first.size());
        std::string bytes =
            range.begin < known ? first.substr(range.begin, known - range.begin) : std::string();
        const ByteRange rest{range.begin + bytes.size(), range.end};
        if (!rest.empty()) {
          bytes.resize(range.size());
          const source::ReadRequest request =
              RequestInto(batch[i], rest, bytes.data() + (rest.begin - range.begin));
          RETURN_IF_ERROR(source.Read({&request, 1}, policy, observer, cancellation));
        }
        if (options.on_bytes) {
          options.on_bytes(begin + i, bytes);
        }
        return bytes;
      };
      ASSIGN_OR_RETURN(format::FileHeader header,
                       format::ReadHeader(PrintableText(batch[i].name), batch[i].version.size, read,
                                          options.ctr_key));
      headers.push_back(std::move(header));
    }
  }
  return headers;
}

}  // namespace weightd::pipeline
