#include "daemon/format/header.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/safetensors.h"
#include "daemon/format/tensorizer.h"
#include "daemon/format/veturboio.h"

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

// `prefix` is the file's first bytes, `known` the first of its JSON.
absl::StatusOr<FileHeader> ReadSafetensorsHeader(absl::string_view file_name, uint64_t file_size,
                                                 absl::string_view prefix, std::string known,
                                                 HeaderReader read) {
  ASSIGN_OR_RETURN(const ByteRange range, SafetensorsHeaderRange(prefix, file_size, file_name));
  ASSIGN_OR_RETURN(const std::string rest,
                   ReadExactly(read, {range.begin + known.size(), range.end}, file_name));
  known += rest;
  ASSIGN_OR_RETURN(FileHeader header, ParseSafetensorsHeader(known, file_size, file_name));
  header.header_bytes = range.end;
  return header;
}

// Whether a file with these first bytes is a safetensors file in clear. Of encrypted ones, one in
// 256 has the brace, but hardly one a length that fits.
bool LooksPlain(absl::string_view prefix, absl::string_view next, uint64_t file_size,
                absl::string_view file_name) {
  const absl::StatusOr<ByteRange> range = SafetensorsHeaderRange(prefix, file_size, file_name);
  return next == "{" && range.ok() && !range->empty();
}

}  // namespace

absl::StatusOr<FileHeader> ReadHeader(absl::string_view file_name, uint64_t file_size,
                                      HeaderReader read, const std::optional<CtrKey>& ctr_key) {
  const auto exactly = [&](ByteRange range) { return ReadExactly(read, range, file_name); };
  std::string prefix;
  if (file_size >= kSafetensorsPrefixBytes) {
    ASSIGN_OR_RETURN(prefix, exactly({0, kSafetensorsPrefixBytes}));
  }
  // As lengths of safetensors' headers these would be far beyond that format's limit.
  if (absl::StartsWith(prefix, kTensorizerMagic)) {
    return ReadTensorizerHeader(file_name, file_size, std::move(prefix), read);
  }
  if (absl::StartsWith(kVeturboioMagic, prefix) && file_size >= kVeturboioMagic.size()) {
    ASSIGN_OR_RETURN(const std::string rest, exactly({prefix.size(), kVeturboioMagic.size()}));
    if (absl::EndsWith(kVeturboioMagic, rest)) {
      return ReadVeturboioHeader(file_name, file_size, exactly, ctr_key);
    }
  } else if (ctr_key.has_value() && file_size > prefix.size() && !prefix.empty()) {
    ASSIGN_OR_RETURN(std::string next, exactly({prefix.size(), prefix.size() + 1}));
    if (LooksPlain(prefix, next, file_size, file_name)) {
      return ReadSafetensorsHeader(file_name, file_size, prefix, std::move(next), read);
    }
    return ReadCtrHeader(file_name, file_size, 0, prefix + next, exactly, *ctr_key);
  }
  return ReadSafetensorsHeader(file_name, file_size, prefix, "", read);
}

}  // namespace weightd::format
