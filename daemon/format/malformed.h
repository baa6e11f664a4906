#ifndef WEIGHTD_DAEMON_FORMAT_MALFORMED_H_
#define WEIGHTD_DAEMON_FORMAT_MALFORMED_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

// How errors about a file's bytes are worded.

namespace weightd::format {

// kMalformedModel: "file_name: byte offset: rule". `offset` counts from the file's first byte.
absl::Status MalformedAt(absl::string_view file_name, uint64_t offset, absl::string_view rule);

// A name from a file as errors print it: quoted, escaped, cut when it is long.
std::string Quoted(absl::string_view name);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_MALFORMED_H_
