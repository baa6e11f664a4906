#ifndef WEIGHTD_DAEMON_DEVICE_GPUS_H_
#define WEIGHTD_DAEMON_DEVICE_GPUS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "daemon/device/budget.h"

namespace weightd::device {

// How clients get at a segment.
enum class Handles : uint8_t {
  // A VMM allocation (cuMemCreate), exported as a descriptor.
  kDescriptor,
  // A cuMemAlloc allocation, exported as a cudaIpcMemHandle_t: for clients that know nothing else.
  kLegacy,
};

// Bytes of a host segment, and where on the device they go.
struct CopyRun {
  ByteRange host;
  uint64_t device_offset = 0;
};

// Bytes in a GPU's memory that no process of ours changes any more. Dropping the last reference
// frees them, and gives their budget back, as far as no client holds them; that waits for the
// worker: not under a lock. Thread-safe.
class Segment {
 public:
  virtual ~Segment() = default;

  virtual const GpuId& gpu() const = 0;
  // Of the allocation: a multiple of Budget::kGranularity.
  virtual uint64_t bytes() const = 0;
  virtual Handles handles() const = 0;
  // Made for one client, which may write to it.
  virtual bool is_private() const = 0;
  // kDescriptor: a new descriptor to hand out. Of a private segment only once: the memory is the
  // client's then and no longer charged to the budget. kDeviceUnavailable if it is lost.
  virtual absl::StatusOr<Fd> OpenForClient() = 0;
  // kLegacy: the 64 bytes of a CUipcMemHandle, with the segment at its allocation's first byte.
  virtual const std::string& legacy_handle() const = 0;
  // Whether the worker that keeps it has ended. Clients that mapped it go on reading where the
  // driver lets them; nobody new gets it.
  virtual bool lost() const = 0;
  // Evicted, but a client holds it: from here on its bytes count as draining.
  virtual void Drain() = 0;
};

// A segment while it is filled. Dropping it frees everything, and waits for that. Thread-safe.
class Upload {
 public:
  virtual ~Upload() = default;

  // The bytes `host` of the host segment can be read from UploadPlan::source, at `source_offset`:
  // copy them. Returns at once. Each byte of the runs is copied once, in any order; bytes that
  // belong to no run are skipped. Returns what Await takes.
  virtual uint64_t Copy(ByteRange host, uint64_t source_offset) = 0;
  // Until the bytes of that Copy are no longer needed where they are read from. An error is the
  // upload's: it has failed for good.
  virtual absl::Status Await(uint64_t copy, Cancellation& cancellation) = 0;
  // After the last Copy: until everything is on the device. Fails with kInternal if a run was not
  // copied whole. The source is closed and unmapped when this returns.
  virtual absl::StatusOr<std::shared_ptr<Segment>> Finish(Cancellation& cancellation) = 0;
};

// What a segment says behind its bytes, if another daemon is to know it again: that it is not some
// other memory of the GPU, no descriptor tells.
inline constexpr size_t kMarkBytes = 32;

struct UploadPlan {
  // On the GPU to upload to; at least device_bytes, and what `mark` has.
  Reservation reservation;
  uint64_t device_bytes = 0;
  Handles handles = Handles::kDescriptor;
  // kMarkBytes, or none.
  std::string mark = {};
  // In any order; they share neither host nor device bytes. What no run fills is zero. Places on
  // the host only name bytes: of a window they lie far beyond `source_bytes`.
  std::vector<CopyRun> runs;
  // Where the bytes are read from: a host segment, read-only, or a window of staging memory that
  // the worker maps writable and pins, so that the GPU reads it without another copy.
  Fd source;
  uint64_t source_bytes = 0;
  bool pin_source = false;
};

// A fresh segment for one client: filled from `copied`, which lies on the same GPU, or else from a
// host segment.
struct PrivateCopyPlan {
  Reservation reservation;
  uint64_t device_bytes = 0;
  std::shared_ptr<Segment> copied;
  std::vector<CopyRun> runs;
  Fd source;
  uint64_t source_bytes = 0;
};

// A segment that an earlier daemon made with a mark, and kept.
struct ImportPlan {
  // Of ReserveHeld.
  Reservation reservation;
  uint64_t device_bytes = 0;
  std::string mark;
  // As OpenForClient gave it then; believed nothing. Duplicates are made of it: it stays the
  // caller's.
  Fd exported;
};

struct GpuStatus {
  GpuId id;
  // As the driver counts in the daemon's environment.
  int index = 0;
  std::string name;
  // Of the whole GPU.
  uint64_t total_bytes = 0;
  Usage usage;
  enum class State {
    kIdle,     // no process of ours is on it
    kRunning,  // its worker runs
    kDrained,  // an operator took us off it
    kFailed,   // its worker ended by itself; the next use starts another
  };
  State state = State::kIdle;
  // 0 unless running.
  int worker_pid = 0;
  // Why the last worker ended, if it did by itself.
  std::string last_error;
};

// The GPUs of this node. All CUDA work is done by one worker process for each GPU, which starts
// when the GPU is first used; this process never touches the driver. Every call that needs a worker
// blocks: not under a lock. Thread-safe.
class Gpus {
 public:
  virtual ~Gpus() = default;

  // Why there are no GPUs; OK if there are some.
  virtual absl::Status why_none() const = 0;

  // By index. Starts nothing.
  virtual std::vector<GpuStatus> List() const = 0;
  // A UUID as GpuId::FromText takes it, or an index. kDeviceUnavailable, naming those that there
  // are, if there is none such.
  virtual absl::StatusOr<GpuId> Find(absl::string_view name) const = 0;

  // Room in the budget, on a GPU that has the memory: kBudgetExceeded, kDeviceMemoryShort,
  // kDeviceUnavailable (no such GPU, drained, or its worker can't start).
  virtual absl::StatusOr<Reservation> Reserve(const GpuId& gpu, uint64_t bytes) = 0;
  // The same for a marked segment of `device_bytes` that the GPU has given already. Starts nothing.
  virtual absl::StatusOr<Reservation> ReserveHeld(const GpuId& gpu, uint64_t device_bytes) = 0;
  virtual Usage UsageOf(const GpuId& gpu) const = 0;

  virtual absl::StatusOr<std::unique_ptr<Upload>> BeginUpload(UploadPlan plan) = 0;
  virtual absl::StatusOr<std::shared_ptr<Segment>> CopyPrivately(PrivateCopyPlan plan,
                                                                 Cancellation& cancellation) = 0;
  // The segment, as if this daemon had uploaded it. kVerificationFailed if it is not that GPU's
  // memory, not so much of it, or has another mark; other errors say nothing of it, and it can be
  // tried again: the plan keeps its reservation, unless it was cancelled.
  virtual absl::StatusOr<std::shared_ptr<Segment>> Import(ImportPlan& plan,
                                                          Cancellation& cancellation) = 0;

  // Ends the worker and starts no other until Resume. The caller has dropped the GPU's segments;
  // those that are left are lost. Returns when the process is gone; kDeviceUnavailable if not even
  // SIGKILL ends it, as a process that hangs in the driver.
  virtual absl::Status Drain(const GpuId& gpu) = 0;
  virtual absl::Status Resume(const GpuId& gpu) = 0;

  // Called, from a thread of this object and without a lock, after a worker ended by itself: its
  // segments are lost. It asks nothing that needs that GPU's worker. Set once, before the first
  // use; an empty function ends it, and waits for a call that runs.
  virtual void OnLost(std::function<void(const GpuId& gpu, const absl::Status& why)> lost) = 0;
};

struct GpusOptions {
  // The driver's library.
  std::string driver = "libcuda.so.1";
  // What to run as a worker: `worker_command... --gpu-worker`; empty: this program.
  std::vector<std::string> worker_command;
  // Of each GPU: bytes, or a part of its memory if `budget_bytes` has no value.
  std::optional<uint64_t> budget_bytes;
  double budget_fraction = 0.5;
  // By UUID text or index; goes before the above.
  std::vector<std::pair<std::string, uint64_t>> budgets = {};
  // Bytes of each GPU that are to stay free for others, whatever the budget.
  uint64_t reserve = 1 << 30;
  // Bytes of pinned host memory that a worker copies through.
  uint64_t ring = 256 << 20;
  // How long a process that owes an answer may be silent before it is killed: a driver that hangs.
  absl::Duration patience = absl::Seconds(30);
};

// Asks a short-lived process which GPUs there are. A node without a driver has none: not an error.
// kInvalidArgument if the options make no sense.
absl::StatusOr<std::unique_ptr<Gpus>> MakeGpus(GpusOptions options);

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_GPUS_H_
