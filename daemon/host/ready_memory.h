#ifndef WEIGHTD_DAEMON_HOST_READY_MEMORY_H_
#define WEIGHTD_DAEMON_HOST_READY_MEMORY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/fd.h"
#include "daemon/host/memfd.h"

namespace weightd::host {

// Memory whose pages are made before anybody needs them: clearing pages is most of what the kernel
// does for a load that fills fresh ones. Not thread-safe.
class ReadyMemory {
 public:
  // `bytes`: whole pages. None of them is present yet.
  static absl::StatusOr<ReadyMemory> Create(uint64_t bytes, bool huge_pages);

  // Makes some more pages present: few enough for somebody to wait for it.
  absl::Status Step();

  // Frees what lies beyond: at most bytes(), whole pages.
  absl::Status Shrink(uint64_t bytes);

  uint64_t bytes() const { return memory_.mapping.size(); }
  // From the first one on.
  uint64_t present() const { return present_; }

  // Gives the memfd away, of any size by now: to be resized.
  Fd Take() &&;

 private:
  ReadyMemory(Fd memfd, WritableMemory memory);

  Fd memfd_;
  WritableMemory memory_;
  uint64_t present_ = 0;
};

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_READY_MEMORY_H_
