#ifndef WEIGHTD_DAEMON_FORMAT_SAFETENSORS_H_
#define WEIGHTD_DAEMON_FORMAT_SAFETENSORS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "daemon/format/header.h"

// safetensors: u64 little-endian length N, N bytes of JSON, data. Accepted is what the format's
// Rust reader (0.8) accepts, less these, which no writer makes:
//   - a tensor name that stands twice, a metadata key that stands twice (that reader silently keeps
//   the last),
//   - a tensor written as an array, a dtype written as {"F32": null} (accidents of how that reader
//   is generated),
//   - a number above 1.797693134862315e308 in a field that is ignored.

namespace weightd::format {

inline constexpr uint64_t kSafetensorsPrefixBytes = 8;
// The reference reader's own limit.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

// Where the JSON lies, from the file's first 8 bytes.
absl::StatusOr<ByteRange> SafetensorsHeaderRange(absl::string_view prefix, uint64_t file_size,
                                                 absl::string_view file_name);

// `json` is the bytes of the header range.
absl::StatusOr<FileHeader> ParseSafetensorsHeader(absl::string_view json, uint64_t file_size,
                                                  absl::string_view file_name);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_SAFETENSORS_H_
