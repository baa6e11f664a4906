#ifndef WEIGHTD_DAEMON_SOURCE_SHA256_H_
#define WEIGHTD_DAEMON_SOURCE_SHA256_H_

#include <memory>

#include "absl/strings/string_view.h"
#include "daemon/source/checksum.h"

namespace weightd::source {

// One that can be saved (Hasher::Save).
std::unique_ptr<Hasher> MakeSha256();

// Goes on where the saved one was; null if `saved` is nothing that Save() gives.
std::unique_ptr<Hasher> ResumeSha256(absl::string_view saved);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_SHA256_H_
