#include "daemon/device/worker/main.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "common/fd_passing.h"
#include "common/gpu_id.h"
#include "common/status.h"
#include "daemon/device/worker/answers.h"
#include "daemon/device/worker/list.h"
#include "daemon/device/worker/worker.h"
#include "daemon/device/worker_messages.h"

namespace weightd::device {
namespace {

constexpr int kExitUsage = 2;

void PrepareWorkerProcess(const char* name) {
  prctl(PR_SET_NAME, name);
  prctl(PR_SET_DUMPABLE, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // It ends when the daemon closes the socket, not by what a terminal or a service manager sends to
  // the whole group.
  signal(SIGHUP, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  // The driver may start programs of its own.
  fcntl(kWorkerSocket, F_SETFD, FD_CLOEXEC);
}

// Takes requests until the daemon ends the conversation. This thread never calls the driver, so
// that it also ends when the driver hangs.
int Serve(const GpuId& gpu, const std::string& driver, uint64_t ring_bytes) {
  Answers answers(kWorkerSocket);
  Worker worker(gpu, driver, ring_bytes, answers);
  while (true) {
    absl::StatusOr<Packet> packet = ReceivePacket(kWorkerSocket, true);
    if (!packet.ok() || packet->bytes.empty()) {
      // Without destructors: the kernel frees all that the GPU gave this process, whatever state
      // the driver is in.
      _exit(0);
    }
    const absl::StatusOr<Request> request = RequestOf(packet->bytes);
    if (!request.ok()) {
      _exit(kExitUsage);
    }
    worker.Take(*request, std::move(packet->fds));
  }
}

}  // namespace

bool IsGpuWorker(int argc, char** argv) {
  return argc > 1 && absl::string_view(argv[1]) == "--gpu-worker";
}

int GpuWorkerMain(int argc, char** argv) {
  int kind = 0;
  socklen_t length = sizeof(kind);
  if (getsockopt(kWorkerSocket, SOL_SOCKET, SO_TYPE, &kind, &length) != 0 ||
      kind != SOCK_SEQPACKET) {
    return kExitUsage;  // started by hand
  }
  PrepareWorkerProcess(argv[0]);
  if (argc == 4 && absl::string_view(argv[2]) == "list") {
    return SendList(kWorkerSocket, argv[3]);
  }
  uint64_t ring_bytes = 0;
  if (argc != 6 || absl::string_view(argv[2]) != "serve" ||
      !absl::SimpleAtoi(argv[5], &ring_bytes)) {
    return kExitUsage;
  }
  const absl::StatusOr<GpuId> gpu = GpuId::FromText(argv[3]);
  return gpu.ok() ? Serve(*gpu, argv[4], ring_bytes) : kExitUsage;
}

}  // namespace weightd::device
