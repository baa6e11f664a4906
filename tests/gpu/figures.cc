#include "tests/gpu/figures.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/mapping.h"
#include "common/status.h"

namespace weightd::figures {

absl::StatusOr<std::shared_ptr<const CudaContext>> OpenGpu(const std::string& driver) {
  ASSIGN_OR_RETURN(auto loaded, CudaDriver::Load(driver));
  ASSIGN_OR_RETURN(const GpuId gpu, CudaContext::GpuAt(*loaded, 0));
  return CudaContext::Retain(std::move(loaded), gpu);
}

absl::StatusOr<Fd> MakeSource(uint64_t bytes, bool huge) {
  Fd file(memfd_create("gpu_figures", MFD_CLOEXEC));
  if (!file.valid() || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
    return ErrnoError(errno, "make a file in memory");
  }
  ASSIGN_OR_RETURN(const Mapping mapping,
                   Mapping::Map(file.get(), bytes, Mapping::Access::kSharedWritable));
  madvise(mapping.data(), mapping.size(), huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  std::memset(mapping.data(), 0x5a, mapping.size());
  return file;
}

absl::StatusOr<std::unique_ptr<RawCopies>> RawCopies::Make(
    std::shared_ptr<const CudaContext> context, uint64_t pinned_bytes) {
  std::unique_ptr<RawCopies> copies(new RawCopies(std::move(context)));
  const CudaDriver& driver = copies->context_->driver();
  RETURN_IF_ERROR(driver.Check(
      driver.cuStreamCreate(&copies->stream_, cuda::CU_STREAM_NON_BLOCKING), "cuStreamCreate"));
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemAllocHost(&copies->pinned_, pinned_bytes), "cuMemAllocHost"));
  copies->pinned_bytes_ = pinned_bytes;
  std::memset(copies->pinned_, 0x5a, pinned_bytes);
  return copies;
}

RawCopies::~RawCopies() {
  const CudaContext::Current current(*context_);
  if (pinned_ != nullptr) {
    context_->driver().cuMemFreeHost(pinned_);
  }
  if (stream_ != nullptr) {
    context_->driver().cuStreamDestroy(stream_);
  }
}

absl::Status RawCopies::FromHost(cuda::CUdeviceptr to, uint64_t bytes) const {
  const CudaDriver& driver = context_->driver();
  for (uint64_t at = 0; at < bytes; at += pinned_bytes_) {
    RETURN_IF_ERROR(driver.Check(
        driver.cuMemcpyHtoDAsync(to + at, pinned_, std::min(pinned_bytes_, bytes - at), stream_),
        "cuMemcpyHtoDAsync"));
  }
  return driver.Check(driver.cuStreamSynchronize(stream_), "cuStreamSynchronize");
}

absl::Status RawCopies::OnDevice(cuda::CUdeviceptr to, cuda::CUdeviceptr from,
                                 uint64_t bytes) const {
  const CudaDriver& driver = context_->driver();
  RETURN_IF_ERROR(
      driver.Check(driver.cuMemcpyDtoDAsync(to, from, bytes, stream_), "cuMemcpyDtoDAsync"));
  return driver.Check(driver.cuStreamSynchronize(stream_), "cuStreamSynchronize");
}

absl::Status Timed(Round& round, const std::string& name,
                   const std::function<absl::Status()>& what) {
  const int64_t begin = absl::GetCurrentTimeNanos();
  RETURN_IF_ERROR(what());
  round[name] += static_cast<double>(absl::GetCurrentTimeNanos() - begin) / 1e9;
  return absl::OkStatus();
}

absl::Status RunRounds(const std::map<std::string, Contender>& contenders, int rounds) {
  std::mt19937 draw(1);  // NOLINT(cert-msc51-cpp): the same order each time
  std::vector<const Contender*> order;
  for (const auto& [name, contender] : contenders) {
    order.push_back(&contender);
  }
  for (int i = 0; i <= rounds; ++i) {
    std::shuffle(order.begin(), order.end(), draw);
    Round round;
    for (const Contender* const contender : order) {
      RETURN_IF_ERROR((*contender)(round));
    }
    if (i > 0) {
      const auto field = [](std::string* out, const Round::value_type& entry) {
        absl::StrAppend(out, "\"", entry.first, "\": ", entry.second);
      };
      std::printf("{%s}\n", absl::StrJoin(round, ", ", field).c_str());
      std::fflush(stdout);
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::figures
