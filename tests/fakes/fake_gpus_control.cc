// What tests tell FakeGpus to do, and what they see of it.

#include <thread>
#include <utility>

#include "absl/time/time.h"
#include "tests/fakes/fake_gpus.h"

namespace weightd::fakes {
namespace {

constexpr absl::Duration kLongest = absl::Minutes(1);

}  // namespace

void FakeGpus::FailUploads(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).upload_error = std::move(error);
}

void FakeGpus::RefuseUploads(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).begin_error = std::move(error);
}

void FakeGpus::FailReserves(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).reserve_error = std::move(error);
}

void FakeGpus::FailPrivateCopies(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).private_error = std::move(error);
}

void FakeGpus::FailImports(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).import_error = std::move(error);
}

void FakeGpus::FailExports(const GpuId& gpu, absl::Status error) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).export_error = std::move(error);
}

absl::Status FakeGpus::ExportStatus(const GpuId& gpu) const {
  absl::MutexLock lock(&mutex_);
  return gpus_.at(gpu).export_error;
}

void FakeGpus::HoldImports(const GpuId& gpu) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).imports_held = true;
}

void FakeGpus::LoseImport(const GpuId& gpu) {
  absl::MutexLock lock(&mutex_);
  gpus_.at(gpu).loses_import = true;
}

void FakeGpus::CloseGate() {
  absl::MutexLock lock(&mutex_);
  open_ = false;
}

void FakeGpus::OpenGate() {
  absl::MutexLock lock(&mutex_);
  open_ = true;
}

void FakeGpus::CopyLate() {
  absl::MutexLock lock(&mutex_);
  late_ = true;
}

void FakeGpus::HoldCopies() {
  absl::MutexLock lock(&mutex_);
  held_ = true;
}

void FakeGpus::Lose(const GpuId& gpu, const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    Gpu& lost = gpus_.at(gpu);
    ++lost.worker;
    lost.state = device::GpuStatus::State::kFailed;
    lost.last_error = std::string(why.message());
  }
  std::thread([&] {
    absl::MutexLock telling(&telling_);
    if (lost_) {
      lost_(gpu, why);
    }
  }).join();
}

bool FakeGpus::AwaitGate() {
  absl::MutexLock lock(&mutex_);
  const auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return at_gate_ > 0; };
  return mutex_.AwaitWithTimeout(absl::Condition(&there), kLongest);
}

bool FakeGpus::AwaitCopies(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return copies_.size() >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongest);
}

bool FakeGpus::AwaitUploads(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return uploads_ >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongest);
}

std::vector<FakeGpus::RecordedCopy> FakeGpus::copies() const {
  absl::MutexLock lock(&mutex_);
  return copies_;
}

size_t FakeGpus::uploads() const {
  absl::MutexLock lock(&mutex_);
  return uploads_;
}

size_t FakeGpus::private_copies() const {
  absl::MutexLock lock(&mutex_);
  return private_copies_;
}

size_t FakeGpus::imports() const {
  absl::MutexLock lock(&mutex_);
  return imports_;
}

size_t FakeGpus::segments_alive() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<size_t>(segments_alive_);
}

size_t FakeGpus::uploads_alive() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<size_t>(uploads_alive_);
}

size_t FakeGpus::segments_drained() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<size_t>(segments_drained_);
}

}  // namespace weightd::fakes
