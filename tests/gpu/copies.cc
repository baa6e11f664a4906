#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "common/fd_passing.h"
#include "common/status.h"
#include "daemon/device/runs.h"
#include "daemon/device/worker/answers.h"
#include "daemon/device/worker/ring.h"
#include "daemon/device/worker/upload_job.h"
#include "daemon/device/worker_messages.h"
#include "tests/gpu/figures.h"

namespace weightd::figures {
namespace {

// As the daemon has it by default.
constexpr uint64_t kRingBytes = 256 * kMiB;

// The worker's ring, told by us what the daemon would tell it. Lives as long as the process, as
// rings do.
class RingCopies {
 public:
  static absl::StatusOr<RingCopies*> Make(std::shared_ptr<const CudaContext> context) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
      return ErrnoError(errno, "make a pair of sockets");
    }
    auto* const copies = new RingCopies(std::move(context), Fd(ends[0]), Fd(ends[1]));
    RETURN_IF_ERROR(copies->ring_.Prepare());
    return copies;
  }

  // All bytes of the job's source.
  absl::Status Copy(std::shared_ptr<const device::UploadJob> job) {
    const uint64_t number = ++number_;
    const ByteRange all{0, job->source_bytes()};
    ring_.Add(number, std::move(job));
    ring_.Copy(number, number, all, 0);
    ASSIGN_OR_RETURN(const Packet packet, ReceivePacket(ours_.get(), /*accept_fds=*/false));
    ASSIGN_OR_RETURN(const device::Answer answer, device::AnswerOf(packet.bytes));
    RETURN_IF_ERROR(device::StatusOf(answer));
    return ring_.Remove(number);
  }

 private:
  RingCopies(std::shared_ptr<const CudaContext> context, Fd ours, Fd theirs)
      : ours_(std::move(ours)),
        theirs_(std::move(theirs)),
        answers_(theirs_.get()),
        ring_(std::move(context), kRingBytes, answers_) {}

  const Fd ours_;
  const Fd theirs_;
  device::Answers answers_;
  device::Ring ring_;
  uint64_t number_ = 0;
};

absl::StatusOr<std::shared_ptr<const device::UploadJob>> MakeJob(
    const std::shared_ptr<const CudaContext>& context, const CudaMemory& to, const Fd& source,
    bool pin) {
  ASSIGN_OR_RETURN(device::Runs runs,
                   device::Runs::Make({{ByteRange{0, to.bytes()}, 0}}, to.bytes()));
  return device::UploadJob::Create(context, to.pointer(), std::move(runs), source, to.bytes(), pin);
}

}  // namespace

absl::Status MeasureCopies(const std::shared_ptr<const CudaContext>& context, uint64_t bytes,
                           int rounds) {
  const CudaContext::Current current(*context);
  ASSIGN_OR_RETURN(const CudaMemory to, CudaMemory::Create(context, bytes));
  ASSIGN_OR_RETURN(const CudaMemory other, CudaMemory::Create(context, bytes));
  ASSIGN_OR_RETURN(const Fd source, MakeSource(bytes, /*huge=*/true));
  ASSIGN_OR_RETURN(const auto raw, RawCopies::Make(context, std::min(bytes, 1024 * kMiB)));
  ASSIGN_OR_RETURN(RingCopies* const ring, RingCopies::Make(context));

  const std::map<std::string, Contender> contenders = {
      {"bus",
       [&](Round& round) {
         return Timed(round, "bus", [&] { return raw->FromHost(to.pointer(), bytes); });
       }},
      {"on_device",
       [&](Round& round) {
         return Timed(round, "on_device",
                      [&] { return raw->OnDevice(other.pointer(), to.pointer(), bytes); });
       }},
      {"ring",
       [&](Round& round) {
         return Timed(round, "ring", [&]() -> absl::Status {
           ASSIGN_OR_RETURN(auto job, MakeJob(context, to, source, /*pin=*/false));
           return ring->Copy(std::move(job));
         });
       }},
      {"registered",
       [&](Round& round) {
         return Timed(round, "registered", [&]() -> absl::Status {
           ASSIGN_OR_RETURN(auto pinned, MakeJob(context, to, source, /*pin=*/true));
           return Timed(round, "registered_copy", [&] { return ring->Copy(std::move(pinned)); });
         });
       }},
  };
  return RunRounds(contenders, rounds);
}

}  // namespace weightd::figures
