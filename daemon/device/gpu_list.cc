#include "daemon/device/gpu_list.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/fd_passing.h"
#include "common/status.h"
#include "daemon/device/worker_messages.h"
#include "daemon/device/worker_process.h"

namespace weightd::device {
namespace {

// No node has as many; a bound on what a process may tell us.
constexpr size_t kMostGpus = 1024;

GpuFacts FactsOf(const ListedGpu& listed) {
  GpuFacts facts;
  std::array<uint8_t, GpuId::kBytes> uuid = {};
  std::memcpy(uuid.data(), listed.uuid, sizeof(listed.uuid));
  facts.id = GpuId(uuid);
  facts.index = listed.index;
  facts.name = std::string(listed.name, strnlen(listed.name, sizeof(listed.name)));
  facts.total_bytes = listed.total_bytes;
  facts.granularity = listed.exports_descriptors != 0 ? listed.granularity : 0;
  return facts;
}

absl::StatusOr<Packet> NextPacket(const WorkerProcess& process, absl::Time deadline) {
  pollfd readable{process.socket(), POLLIN, 0};
  int ready = 0;
  do {
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    ready = poll(&readable, 1, static_cast<int>(absl::ToInt64Milliseconds(left)));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    return Error(Reason::kDeviceUnavailable, "the CUDA driver doesn't answer",
                 "look at nvidia-smi and the kernel's log for the GPUs' state");
  }
  return ReceivePacket(process.socket(), false);
}

}  // namespace

absl::StatusOr<std::vector<GpuFacts>> ListGpus(const std::vector<std::string>& worker_command,
                                               const std::string& driver, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  ASSIGN_OR_RETURN(WorkerProcess process,
                   WorkerProcess::Start(worker_command, "weightd-gpu-list", {"list", driver}));
  std::vector<GpuFacts> gpus;
  while (gpus.size() < kMostGpus) {
    ASSIGN_OR_RETURN(const Packet packet, NextPacket(process, deadline));
    if (packet.bytes.empty()) {
      break;
    }
    if (packet.bytes.size() == sizeof(ListedGpu)) {
      ASSIGN_OR_RETURN(const ListedGpu listed, ListedGpuOf(packet.bytes));
      gpus.push_back(FactsOf(listed));
      continue;
    }
    ASSIGN_OR_RETURN(const Answer answer, AnswerOf(packet.bytes));
    RETURN_IF_ERROR(StatusOf(answer));
    if (gpus.empty()) {
      return Error(Reason::kDeviceUnavailable, "the CUDA driver shows no GPU",
                   "see that the container or service may use GPUs, and CUDA_VISIBLE_DEVICES");
    }
    return gpus;
  }
  process.WaitFor(deadline - absl::Now());
  return Error(Reason::kDeviceUnavailable,
               absl::StrCat("the process that lists the GPUs ", process.how_it_ended()),
               "look at nvidia-smi and the kernel's log for the GPUs' state");
}

}  // namespace weightd::device
