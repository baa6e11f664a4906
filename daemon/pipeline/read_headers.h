#ifndef WEIGHTD_DAEMON_PIPELINE_READ_HEADERS_H_
#define WEIGHTD_DAEMON_PIPELINE_READ_HEADERS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "daemon/format/aes_ctr.h"
#include "daemon/format/header.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/source.h"

namespace weightd::pipeline {

// The most header bytes of one revision, all its files together. A model of a hundred thousand
// tensors has some 10 MiB; without a limit, a server with many shards could take all memory.
inline constexpr uint64_t kMaxHeaderBytes = 256 << 20;

struct HeaderOptions {
  // More is kMalformedModel, found before they are read.
  uint64_t max_bytes = kMaxHeaderBytes;
  // Asked before each header is read, with the bytes of all headers so far, that one included.
  // veTurboIO's headers in clear count a sixteenth: they are mostly zeros, and kept, not parsed.
  std::function<absl::Status(uint64_t bytes)> make_room = {};
  // Told of the bytes that headers are made of, each file's from its first on without gaps.
  std::function<void(size_t file, absl::string_view bytes)> on_bytes = {};
  // As ReadObserver's.
  std::function<bool()> awaited = [] { return true; };
  // Opens headers that are encrypted with AES-CTR.
  std::optional<format::CtrKey> ctr_key = {};
};

// The header of each file, in their order. The first part of many files is read at once, large
// enough to hold most headers whole; a longer header takes one more read.
absl::StatusOr<std::vector<format::FileHeader>> ReadHeaders(source::Source& source,
                                                            absl::Span<const ModelFile> files,
                                                            const source::ReadPolicy& policy,
                                                            Cancellation& cancellation,
                                                            const HeaderOptions& options = {});

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_READ_HEADERS_H_
