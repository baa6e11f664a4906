#include "tests/fakes/fake_segment.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status.h"
#include "tests/fakes/fake_gpus.h"

namespace weightd::fakes {
namespace {

absl::StatusOr<Fd> MemfdOf(absl::string_view bytes) {
  Fd memfd(memfd_create("fake-gpu", MFD_CLOEXEC));
  if (!memfd.valid()) {
    return ErrnoError(errno, "create a memfd");
  }
  while (!bytes.empty()) {
    const ssize_t written = write(memfd.get(), bytes.data(), bytes.size());
    if (written < 0) {
      return ErrnoError(errno, "fill a memfd");
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return memfd;
}

}  // namespace

FakeSegment::FakeSegment(FakeGpus* gpus, int worker, std::string bytes, std::string mark,
                         device::Handles handles, bool is_private, device::Reservation reservation)
    : gpus_(*gpus),
      gpu_(reservation.gpu()),
      worker_(worker),
      bytes_(std::move(bytes)),
      mark_(std::move(mark)),
      allocated_(reservation.bytes()),
      handles_(handles),
      is_private_(is_private),
      reservation_(std::move(reservation)) {
  reservation_.Recharge(device::Charge::kResident);
  gpus_.CountSegment(1, false);
  if (handles == device::Handles::kLegacy) {
    legacy_handle_ = gpus_.NextLegacyHandle();
  }
}

FakeSegment::~FakeSegment() { gpus_.CountSegment(-1, drained_); }

bool FakeSegment::lost() const { return gpus_.Lost(gpu_, worker_); }

absl::StatusOr<Fd> FakeSegment::OpenForClient() {
  if (lost()) {
    return Error(Reason::kDeviceUnavailable, "its worker has ended", "load it again");
  }
  RETURN_IF_ERROR(gpus_.ExportStatus(gpu_));
  absl::MutexLock lock(&mutex_);
  if (handles_ == device::Handles::kLegacy || given_away_) {
    return Error(Reason::kInternal, "this segment has no descriptor to give");
  }
  if (is_private_) {
    given_away_ = true;
    reservation_.GiveBack();
  }
  return MemfdOf(absl::StrCat(bytes_, mark_, gpu_.ToBytes()));
}

void FakeSegment::Drain() {
  absl::MutexLock lock(&mutex_);
  if (!drained_) {
    drained_ = true;
    reservation_.Recharge(device::Charge::kDraining);
    gpus_.CountSegment(0, true);
  }
}

}  // namespace weightd::fakes
