#include "daemon/device/worker/upload_job.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::device {

absl::StatusOr<std::shared_ptr<const UploadJob>> UploadJob::Create(
    std::shared_ptr<const CudaContext> context, cuda::CUdeviceptr device, Runs runs,
    const Fd& source, uint64_t source_bytes, bool pin) {
  // A byte that is mapped but not in the file is a SIGBUS.
  struct stat facts = {};
  if (fstat(source.get(), &facts) != 0) {
    return ErrnoError(errno, "look at what to copy to a GPU");
  }
  if (static_cast<uint64_t>(facts.st_size) < source_bytes) {
    return Error(Reason::kInternal, absl::StrCat("a source of ", facts.st_size, " bytes, not of ",
                                                 source_bytes, ", to copy to a GPU"));
  }
  ASSIGN_OR_RETURN(Mapping mapping, Mapping::Map(source.get(), source_bytes,
                                                 pin ? Mapping::Access::kSharedWritable
                                                     : Mapping::Access::kSharedReadOnly));
  std::shared_ptr<UploadJob> job(
      new UploadJob(std::move(context), device, std::move(runs), std::move(mapping)));
  if (pin && job->source_.size() > 0) {
    const CudaDriver& driver = job->context_->driver();
    absl::Status registered = driver.Check(
        driver.cuMemHostRegister(job->source_.data(), job->source_.size(), 0), "cuMemHostRegister");
    if (CudaDriver::NeedsProcessExit(registered)) {
      return registered;
    }
    // Some systems refuse (IOMMUs, limits): the bytes then go through the ring, with one copy more.
    job->pinned_ = registered.ok();
  }
  return job;
}

UploadJob::~UploadJob() {
  if (pinned_) {
    const CudaContext::Current current(*context_);
    context_->driver().cuMemHostUnregister(source_.data());
  }
}

}  // namespace weightd::device
