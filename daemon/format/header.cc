#include "daemon/format/header.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/safetensors.h"

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

}  // namespace

absl::StatusOr<FileHeader> ReadHeader(absl::string_view file_name, uint64_t file_size,
                                      HeaderReader read) {
  std::string prefix;
  if (file_size >= kSafetensorsPrefixBytes) {
    ASSIGN_OR_RETURN(prefix, ReadExactly(read, {0, kSafetensorsPrefixBytes}, file_name));
  }
  ASSIGN_OR_RETURN(const ByteRange range, SafetensorsHeaderRange(prefix, file_size, file_name));
  ASSIGN_OR_RETURN(const std::string json, ReadExactly(read, range, file_name));
  return ParseSafetensorsHeader(json, file_size, file_name);
}

}  // namespace weightd::format
