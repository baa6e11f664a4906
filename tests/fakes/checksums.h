#ifndef WEIGHTD_TESTS_FAKES_CHECKSUMS_H_
#define WEIGHTD_TESTS_FAKES_CHECKSUMS_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "daemon/source/checksum.h"

namespace weightd::fakes {

// What a store that keeps checksums says of an object with these bytes: of the whole of it, or of
// parts of these sizes.
source::Checksum Whole(source::ChecksumKind kind, absl::string_view bytes);
source::Checksum InParts(source::ChecksumKind kind, absl::string_view bytes,
                         std::vector<uint64_t> sizes);

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_CHECKSUMS_H_
