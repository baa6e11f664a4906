#ifndef WEIGHTD_TESTS_FAKES_FAKE_GPUS_H_
#define WEIGHTD_TESTS_FAKES_FAKE_GPUS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/gpu_id.h"
#include "daemon/device/budget.h"
#include "daemon/device/gpus.h"

namespace weightd::fakes {

// A GPU's name for tests: each byte is `number`.
GpuId MakeGpuId(int number);

// GPUs whose memory is this process's, and no worker but a thread for each upload, which reads from
// the descriptor that the upload was given, as a worker does: bytes that are taken from there too
// early are wrong on the device. Budgets are the real thing. Uploads and private copies can be told
// to fail or held at a gate; a GPU can be lost. Memory that nobody copied to is full of 0xdb.
// Thread-safe. Outlives what it makes.
class FakeGpus final : public device::Gpus {
 public:
  struct RecordedCopy {
    GpuId gpu;
    ByteRange host;
    uint64_t source_offset = 0;
  };

  // Ids and bytes of budget, by index.
  explicit FakeGpus(const std::vector<std::pair<GpuId, uint64_t>>& gpus);
  ~FakeGpus() override;

  // What lies in a segment's memory; all of device_bytes, not of the allocation.
  static std::string Bytes(const device::Segment& segment);

  // Uploads to that GPU, those that run too, fail with it at their next call; OK: they work again.
  void FailUploads(const GpuId& gpu, absl::Status error);
  // The same of BeginUpload, of Reserve, of CopyPrivately and of Import.
  void RefuseUploads(const GpuId& gpu, absl::Status error);
  void FailReserves(const GpuId& gpu, absl::Status error);
  void FailPrivateCopies(const GpuId& gpu, absl::Status error);
  void FailImports(const GpuId& gpu, absl::Status error);
  // Of segments there no descriptor is given from now on.
  void FailExports(const GpuId& gpu, absl::Status error);
  // From now on they wait for their cancellation there.
  void HoldImports(const GpuId& gpu);
  // The worker ends as soon as it has imported the next one there; nobody is told.
  void LoseImport(const GpuId& gpu);
  // Finish, CopyPrivately and Import wait until the gate is open, or their cancellation.
  void CloseGate();
  void OpenGate();
  // Uploads that begin from now on copy nothing before somebody waits for it.
  void CopyLate();
  // Uploads that begin from now on never end a wait for a copy, but by cancellation or failure.
  void HoldCopies();
  // As if the worker had ended by itself: segments are lost, uploads fail. Returns when whoever
  // waits for that (OnLost) was told.
  void Lose(const GpuId& gpu, const absl::Status& why);

  // Wait a minute at most; false if it didn't come to that.
  [[nodiscard]] bool AwaitGate();                 // somebody stands at the gate
  [[nodiscard]] bool AwaitCopies(size_t count);   // that many calls of Copy, altogether
  [[nodiscard]] bool AwaitUploads(size_t count);  // that many uploads begun, altogether

  std::vector<RecordedCopy> copies() const;
  size_t uploads() const;
  size_t private_copies() const;
  size_t imports() const;
  // Not dropped yet.
  size_t segments_alive() const;
  size_t uploads_alive() const;
  // Of those, how many were drained.
  size_t segments_drained() const;

  std::vector<device::GpuStatus> List() const override;
  absl::Status why_none() const override { return absl::OkStatus(); }
  absl::StatusOr<GpuId> Find(absl::string_view name) const override;
  absl::StatusOr<device::Reservation> Reserve(const GpuId& gpu, uint64_t bytes) override;
  absl::StatusOr<device::Reservation> ReserveHeld(const GpuId& gpu, uint64_t device_bytes) override;
  device::Usage UsageOf(const GpuId& gpu) const override;
  absl::StatusOr<std::unique_ptr<device::Upload>> BeginUpload(device::UploadPlan plan) override;
  absl::StatusOr<std::shared_ptr<device::Segment>> CopyPrivately(
      device::PrivateCopyPlan plan, Cancellation& cancellation) override;
  absl::StatusOr<std::shared_ptr<device::Segment>> Import(device::ImportPlan& plan,
                                                          Cancellation& cancellation) override;
  absl::Status Drain(const GpuId& gpu) override;
  absl::Status Resume(const GpuId& gpu) override;
  void OnLost(std::function<void(const GpuId& gpu, const absl::Status& why)> lost) override;

 private:
  friend class FakeSegment;
  friend class FakeUpload;

  struct Gpu {
    int index = 0;
    std::shared_ptr<device::Budget> budget;
    device::GpuStatus::State state = device::GpuStatus::State::kIdle;
    std::string last_error;
    // Counts workers: what one made is lost when it ends.
    int worker = 1;
    absl::Status upload_error;
    absl::Status begin_error;
    absl::Status reserve_error;
    absl::Status private_error;
    absl::Status import_error;
    absl::Status export_error;
    bool imports_held = false;
    bool loses_import = false;
  };

  absl::Status CheckUsable(const GpuId& gpu) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status PassGate(Cancellation& cancellation) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status AwaitImports(const GpuId& gpu, Cancellation& cancellation)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // What uploads of that worker fail with.
  absl::Status UploadStatus(const GpuId& gpu, int worker) const ABSL_LOCKS_EXCLUDED(mutex_);
  bool Lost(const GpuId& gpu, int worker) const ABSL_LOCKS_EXCLUDED(mutex_);
  void Record(const RecordedCopy& copy) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status ExportStatus(const GpuId& gpu) const ABSL_LOCKS_EXCLUDED(mutex_);
  void CountSegment(int change, bool drained) ABSL_LOCKS_EXCLUDED(mutex_);
  void CountUpload(int change) ABSL_LOCKS_EXCLUDED(mutex_);
  std::string NextLegacyHandle() ABSL_LOCKS_EXCLUDED(mutex_);

  mutable absl::Mutex mutex_;
  std::map<GpuId, Gpu> gpus_ ABSL_GUARDED_BY(mutex_);
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  int at_gate_ ABSL_GUARDED_BY(mutex_) = 0;
  bool late_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<RecordedCopy> copies_ ABSL_GUARDED_BY(mutex_);
  size_t uploads_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t private_copies_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t imports_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t segments_alive_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t segments_drained_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t uploads_alive_ ABSL_GUARDED_BY(mutex_) = 0;
  int next_handle_ ABSL_GUARDED_BY(mutex_) = 0;

  // Held while `lost_` runs, and before mutex_.
  absl::Mutex telling_ ABSL_ACQUIRED_BEFORE(mutex_);
  std::function<void(const GpuId&, const absl::Status&)> lost_ ABSL_GUARDED_BY(telling_);
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_GPUS_H_
