#ifndef WEIGHTD_DAEMON_FORMAT_TENSORIZER_H_
#define WEIGHTD_DAEMON_FORMAT_TENSORIZER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/byte_range.h"
#include "daemon/format/header.h"

// tensorizer: a preamble, metadata with an entry for each tensor, and for each tensor a record (a
// header of its own, then its bytes). Data versions 1 to 5 are read. Accepted is less than the
// reference reader accepts, which checks next to nothing: see README.md.

namespace weightd::format {

inline constexpr absl::string_view kTensorizerMagic = "|TZR|";
inline constexpr uint64_t kTensorizerPreambleBytes = 73;
// As for safetensors. Writers make 256 KiB.
inline constexpr uint64_t kMaxTensorizerMetadataBytes = 100'000'000;
// What the zeros that one file doesn't store may come to: far beyond any machine, and so small that
// no sum of tensors' sizes overflows.
inline constexpr uint64_t kMaxUnstoredBytes = uint64_t{1} << 50;

struct TensorizerPreamble {
  TensorizerTraits traits;
  // Whether metadata entries begin with a tag that says how wide their extents are.
  bool tagged = false;
  uint64_t tensor_count = 0;
  // Lies in the file, behind the preamble, and can hold that many entries.
  ByteRange metadata;
};

// `bytes` are the file's first kTensorizerPreambleBytes; fewer only if the file has no more.
absl::StatusOr<TensorizerPreamble> ParseTensorizerPreamble(absl::string_view bytes,
                                                           uint64_t file_size,
                                                           absl::string_view file_name);

// `bytes` are those of preamble.metadata.
absl::StatusOr<FileHeader> ParseTensorizerMetadata(absl::string_view bytes,
                                                   const TensorizerPreamble& preamble,
                                                   uint64_t file_size, absl::string_view file_name);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_TENSORIZER_H_
