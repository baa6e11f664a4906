#ifndef WEIGHTD_DAEMON_FORMAT_HEADER_H_
#define WEIGHTD_DAEMON_FORMAT_HEADER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "common/dtype.h"

namespace weightd::format {

// One tensor of a file: checked, so that `bytes` lies in the file and has the size that dtype and
// shape give.
struct TensorEntry {
  std::string name;
  DType dtype = DType::kU8;
  // Extents, outermost first; empty for a scalar.
  std::vector<uint64_t> shape;
  // Where its bytes lie, counted from the file's first byte.
  ByteRange bytes;
};

// What a weight file says of itself.
struct FileHeader {
  // Ordered by `bytes`; names are unique; ranges don't overlap.
  std::vector<TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
};

// Gives the bytes of a range of the file; ranges lie inside the file.
using HeaderReader = absl::FunctionRef<absl::StatusOr<std::string>(ByteRange)>;

// Recognises the format, asks `read` for the header's bytes and returns what they say. Asks for
// nothing that lies outside the file, and for no more than the format's own limit. Malformed input
// is kDataLoss (kMalformedModel), naming `file_name`, the offset and the rule.
absl::StatusOr<FileHeader> ReadHeader(absl::string_view file_name, uint64_t file_size,
                                      HeaderReader read);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_HEADER_H_
