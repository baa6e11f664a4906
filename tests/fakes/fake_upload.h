#ifndef WEIGHTD_TESTS_FAKES_FAKE_UPLOAD_H_
#define WEIGHTD_TESTS_FAKES_FAKE_UPLOAD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/gpu_id.h"
#include "common/mapping.h"
#include "daemon/device/gpus.h"

namespace weightd::fakes {

class FakeGpus;

// What memory on a fake GPU is full of that nobody copied to.
inline constexpr char kUntouched = '\xdb';

// An upload of FakeGpus. Copies on its own thread, in the order in which it was asked to.
class FakeUpload final : public device::Upload {
 public:
  FakeUpload(FakeGpus* gpus, int worker, device::UploadPlan plan, Mapping source, bool late,
             bool held);
  ~FakeUpload() override;

  uint64_t Copy(ByteRange host, uint64_t source_offset) override;
  absl::Status Await(uint64_t copy, Cancellation& cancellation) override;
  absl::StatusOr<std::shared_ptr<device::Segment>> Finish(Cancellation& cancellation) override;

 private:
  struct Asked {
    ByteRange host;
    uint64_t source_offset = 0;
  };

  void Work();
  void Stop();

  FakeGpus& gpus_;
  const int worker_;
  const GpuId gpu_;
  const bool late_;
  const bool held_;
  device::UploadPlan plan_;
  Mapping source_;
  // The thread's until it has ended.
  std::string memory_;
  std::vector<uint8_t> copied_;
  absl::Mutex mutex_;
  std::vector<Asked> asked_ ABSL_GUARDED_BY(mutex_);
  uint64_t awaited_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_UPLOAD_H_
