#ifndef WEIGHTD_CLIENT_CPP_SEALED_FILE_H_
#define WEIGHTD_CLIENT_CPP_SEALED_FILE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "client/cpp/model.h"
#include "common/mapping.h"

namespace weightd::client {

// A mapped file that nobody can change or shrink.
struct SealedMapping {
  Mapping mapping;
  // What was possible: a private mapping is refused where the kernel counts it against a strict
  // commit limit.
  Access access = Access::kSharedReadOnly;
};

// Maps the first `nbytes` bytes of a memfd that the daemon sent, after checking that its size holds
// them and that its seals keep it so: otherwise a later truncation would kill us with SIGBUS.
// `what` names it in errors.
absl::StatusOr<SealedMapping> MapSealed(int fd, uint64_t nbytes, Access access,
                                        absl::string_view what);

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_SEALED_FILE_H_
