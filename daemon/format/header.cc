#include "daemon/format/header.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/safetensors.h"
#include "daemon/format/tensorizer.h"

namespace weightd::format {
namespace {

// `read`, held to its word: exactly the bytes of the range.
absl::StatusOr<std::string> ReadExactly(HeaderReader read, ByteRange range,
                                        absl::string_view file_name) {
  ASSIGN_OR_RETURN(std::string bytes, read(range));
  if (bytes.size() != range.size()) {
    return Error(Reason::kSourceProtocol,
                 absl::StrCat(file_name, ": asked for ", range.size(), " bytes at ", range.begin,
                              ", got ", bytes.size()));
  }
  return bytes;
}

// `prefix` is the file's first bytes, fewer than its preamble.
absl::StatusOr<FileHeader> ReadTensorizerHeader(absl::string_view file_name, uint64_t file_size,
                                                std::string prefix, HeaderReader read) {
  const ByteRange rest{prefix.size(), std::min(file_size, kTensorizerPreambleBytes)};
  if (!rest.empty()) {
    ASSIGN_OR_RETURN(const std::string bytes, ReadExactly(read, rest, file_name));
    prefix += bytes;
  }
  ASSIGN_OR_RETURN(const TensorizerPreamble preamble,
                   ParseTensorizerPreamble(prefix, file_size, file_name));
  ASSIGN_OR_RETURN(const std::string metadata, ReadExactly(read, preamble.metadata, file_name));
  ASSIGN_OR_RETURN(FileHeader header,
                   ParseTensorizerMetadata(metadata, preamble, file_size, file_name));
  header.header_bytes = preamble.metadata.end;
  return header;
}

}  // namespace

absl::StatusOr<FileHeader> ReadHeader(absl::string_view file_name, uint64_t file_size,
                                      HeaderReader read) {
  std::string prefix;
  if (file_size >= kSafetensorsPrefixBytes) {
    ASSIGN_OR_RETURN(prefix, ReadExactly(read, {0, kSafetensorsPrefixBytes}, file_name));
  }
  // As a length of safetensors' header it would be far beyond that format's limit.
  if (absl::StartsWith(prefix, kTensorizerMagic)) {
    return ReadTensorizerHeader(file_name, file_size, std::move(prefix), read);
  }
  ASSIGN_OR_RETURN(const ByteRange range, SafetensorsHeaderRange(prefix, file_size, file_name));
  ASSIGN_OR_RETURN(const std::string json, ReadExactly(read, range, file_name));
  ASSIGN_OR_RETURN(FileHeader header, ParseSafetensorsHeader(json, file_size, file_name));
  header.header_bytes = range.end;
  return header;
}

}  // namespace weightd::format
