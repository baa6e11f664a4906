#ifndef WEIGHTD_DAEMON_HOST_KEPT_MEMORY_H_
#define WEIGHTD_DAEMON_HOST_KEPT_MEMORY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/fd.h"

// Descriptors that come from elsewhere, and what may be made of them. Nothing here blocks, whatever
// they are of.

namespace weightd::host {

// Which memory it is: of two descriptors with the same one, both are of the same bytes. Until the
// machine boots again.
struct MemoryId {
  uint64_t device = 0;
  uint64_t inode = 0;

  friend bool operator==(const MemoryId&, const MemoryId&) = default;
};

absl::StatusOr<MemoryId> MemoryIdOf(const Fd& fd);

// OK if `kept` is of a memfd that this process's user made, exactly `bytes` long, which is whole
// pages; that nobody can write to, make longer or shorter, or seal any further; and if it was
// opened for reading only, so that it tells who else holds the memory. kVerificationFailed else:
// the message says what is wrong, not which descriptor.
absl::Status CheckSealed(const Fd& kept, uint64_t bytes);

// The bytes of a memfd of this process's user, open for reading and writing, that keeps its length
// for ever and can be written to. kVerificationFailed for anything else, and for what is longer
// than `most`.
absl::StatusOr<uint64_t> CheckWritable(const Fd& fd, uint64_t most);

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_KEPT_MEMORY_H_
