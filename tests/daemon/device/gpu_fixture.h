#ifndef WEIGHTD_TESTS_DAEMON_DEVICE_GPU_FIXTURE_H_
#define WEIGHTD_TESTS_DAEMON_DEVICE_GPU_FIXTURE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/cuda_memory.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "daemon/device/gpus.h"
#include "gtest/gtest.h"

namespace weightd::device {

inline constexpr uint64_t kMiB = 1 << 20;

// Real worker processes on the fake driver, with two GPUs of 256 MiB; this process is the daemon,
// and a client. When a test has ended nothing may be left in the GPUs' memory.
class GpuFixture : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  GpusOptions Options() const;
  // With a ring of 1 MiB: slots of 64 KiB.
  void Start() { Start(Options()); }
  void Start(const GpusOptions& options);

  GpuId Gpu(int index = 0) const;
  GpuStatus Status(int index = 0) const { return gpus_->List().at(static_cast<size_t>(index)); }
  uint64_t LiveBytes(int index = 0) const;
  // Those of ours, without this one.
  std::vector<int> WorkersOn(int index = 0) const;
  void Fail(absl::string_view fault);
  void HealAll();

  // `bytes` of a pattern, in a memfd.
  static Fd Source(uint64_t bytes);
  static char PatternAt(uint64_t offset);
  static CopyRun Whole(uint64_t bytes) { return {{0, bytes}, 0}; }

  // Room for `bytes`, which there is.
  Reservation Reserve(uint64_t bytes, int index = 0);
  UploadPlan Plan(uint64_t bytes, std::vector<CopyRun> runs, int index = 0);
  PrivateCopyPlan PrivatePlan(uint64_t bytes, std::shared_ptr<Segment> copied);
  // All steps of an upload of a whole source.
  absl::StatusOr<std::shared_ptr<Segment>> TryUpload(uint64_t bytes,
                                                     Handles handles = Handles::kDescriptor,
                                                     int index = 0);
  // The same, and that it succeeds.
  std::shared_ptr<Segment> Upload(uint64_t bytes, int index = 0);

  // The segment's bytes, as a client's process sees them.
  std::string Read(Segment& segment);
  // Of a descriptor of `bytes`.
  std::string ReadMemory(int fd, uint64_t bytes, int index = 0);
  static std::string Pattern(uint64_t bytes);
  std::shared_ptr<const CudaContext> ClientContext(int index = 0) const;

  static bool SoonTrue(const std::function<bool()>& condition);

  static std::string Driver();
  static std::string WorkerProgram();

  std::string dir_;
  std::unique_ptr<Gpus> gpus_;
  Cancellation never_;
};

}  // namespace weightd::device

#endif  // WEIGHTD_TESTS_DAEMON_DEVICE_GPU_FIXTURE_H_
