#include "tests/fakes/checksums.h"

#include <cstddef>
#include <string>
#include <utility>

namespace weightd::fakes {

source::Checksum Whole(source::ChecksumKind kind, absl::string_view bytes) {
  return {.kind = kind, .value = HashOf(kind, bytes), .part_sizes = {}};
}

source::Checksum InParts(source::ChecksumKind kind, absl::string_view bytes,
                         std::vector<uint64_t> sizes) {
  std::string values;
  size_t begin = 0;
  for (const uint64_t size : sizes) {
    values += HashOf(kind, bytes.substr(begin, size));
    begin += size;
  }
  return {.kind = kind, .value = HashOf(kind, values), .part_sizes = std::move(sizes)};
}

}  // namespace weightd::fakes
