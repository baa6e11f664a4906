#include "client/cli/doctor.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/text.h"
#include "common/huge_pages.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

using State = Finding::State;

// MADV_POPULATE_READ and MADV_POPULATE_WRITE came with 5.14.
constexpr int kKernelMajor = 5;
constexpr int kKernelMinor = 14;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kFewOpenFiles = 4096;
constexpr double kMostlyHuge = 0.95;
// First touch of a GiB: 0.13 s with pages of 4 KiB, 0.005 s with pages of 2 MiB.
constexpr double kSecondsPerSmallGiB = 0.125;

Finding Kernel(const NodeReadings& node) {
  int major = 0;
  int minor = 0;
  if (std::sscanf(node.kernel_release.c_str(), "%d.%d", &major, &minor) != 2) {
    return {"kernel", State::kWarn, absl::StrCat("unknown release ", node.kernel_release),
            "weightd may not run", "use Linux 5.14 or later"};
  }
  if (major < kKernelMajor || (major == kKernelMajor && minor < kKernelMinor)) {
    return {"kernel", State::kFail, absl::StrCat("Linux ", node.kernel_release),
            "weightd does not run: memory cannot be populated as it needs",
            "use Linux 5.14 or later"};
  }
  return {"kernel", State::kOk, absl::StrCat("Linux ", node.kernel_release), "", ""};
}

Finding HugePages(const NodeReadings& node) {
  if (node.shmem_enabled.empty()) {
    return {
        "huge_pages", State::kWarn, "this kernel has no huge pages for shared memory",
        "loads run at about a quarter of the speed, and each process pays 0.13 s per GiB at its "
        "first touch instead of 0.005 s",
        "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE"};
  }
  if (!HugePagesAllowed(node.shmem_enabled)) {
    return {
        "huge_pages", State::kWarn, absl::StrCat("shmem_enabled is ", node.shmem_enabled),
        "loads run at about a quarter of the speed, and each process pays 0.13 s per GiB at its "
        "first touch instead of 0.005 s",
        "weightctl doctor --fix as root (sets advise until the next boot), then load again"};
  }
  return {"huge_pages", State::kOk, absl::StrCat("shmem_enabled is ", node.shmem_enabled), "", ""};
}

Finding ModelPages(const NodeReadings::ResidentModel& model) {
  Finding finding{"model_huge_pages", State::kOk,
                  absl::StrFormat("%s: %.0f%% of %s in huge pages", model.name,
                                  model.huge_page_fraction * 100, BytesText(model.bytes)),
                  "", ""};
  const double small =
      static_cast<double>(model.bytes) / kGiB * (1 - std::min(1.0, model.huge_page_fraction));
  // A model smaller than some huge pages can't lie in them.
  if (model.huge_page_fraction < kMostlyHuge && small >= 1.0 / 64) {
    finding.state = State::kWarn;
    finding.cost = absl::StrFormat("each process pays about %.2f s more to touch all of it first",
                                   small * kSecondsPerSmallGiB);
    finding.remedy = "see huge_pages; then weightctl evict and preload it";
  }
  return finding;
}

std::string WhoseLimit(const NodeReadings& node) {
  return node.limits_are_the_daemons ? " (the daemon's)" : " (this shell's; no daemon to ask)";
}

Finding LockedMemory(const NodeReadings& node) {
  if (node.may_lock_all || node.memlock_limit == kUnlimited) {
    return {"locked_memory", State::kOk, absl::StrCat("unlimited", WhoseLimit(node)), "", ""};
  }
  Finding finding{"locked_memory", State::kOk,
                  absl::StrCat(BytesText(node.memlock_limit), WhoseLimit(node)), "", ""};
  if (node.memlock_limit < node.memory_total / 2) {
    finding.state = State::kWarn;
    finding.cost = "models beyond the limit are not locked and may be swapped out under pressure";
    finding.remedy =
        "LimitMEMLOCK=infinity in the unit, ulimit -l unlimited, the capability IPC_LOCK in a "
        "container, or no swap";
  }
  return finding;
}

Finding OpenFiles(const NodeReadings& node) {
  Finding finding{"open_files", State::kOk,
                  node.open_files_limit == kUnlimited
                      ? absl::StrCat("unlimited", WhoseLimit(node))
                      : absl::StrCat(node.open_files_limit, WhoseLimit(node)),
                  "", ""};
  if (node.open_files_limit < kFewOpenFiles) {
    finding.state = State::kWarn;
    finding.cost = "each client takes two descriptors, each model three: later ones are refused";
    finding.remedy = "LimitNOFILE=65536 in the unit, or ulimit -n 65536";
  }
  return finding;
}

Finding IoUring(const NodeReadings& node) {
  if (node.io_uring_error == 0) {
    return {"io_uring", State::kOk, "available", "", ""};
  }
  return {"io_uring", State::kWarn, absl::StrCat("refused: ", std::strerror(node.io_uring_error)),
          "local files are read with plain reads on threads, somewhat slower",
          node.io_uring_error == EPERM
              ? "allow io_uring in the seccomp profile and in kernel.io_uring_disabled"
              : "use a kernel with io_uring, and allow it in the seccomp profile"};
}

Finding Overcommit(const NodeReadings& node) {
  if (node.overcommit_memory != 2) {
    return {"overcommit", State::kOk,
            absl::StrCat("vm.overcommit_memory is ", node.overcommit_memory), "", ""};
  }
  return {"overcommit", State::kWarn, "vm.overcommit_memory is 2",
          "private mappings of models are charged in full: clients may get read-only ones instead",
          "sysctl vm.overcommit_memory=0"};
}

Finding Memory(const NodeReadings& node) {
  const uint64_t in_cgroup =
      node.cgroup_limit == kUnlimited
          ? kUnlimited
          : node.cgroup_limit - std::min(node.cgroup_limit, node.cgroup_used);
  const uint64_t room = std::min(node.memory_available, in_cgroup);
  Finding finding{"memory", State::kOk,
                  absl::StrCat(BytesText(node.memory_available), " of ",
                               BytesText(node.memory_total), " available",
                               node.cgroup_limit == kUnlimited
                                   ? ", no cgroup limit"
                                   : absl::StrCat(", cgroup limit ", BytesText(node.cgroup_limit))),
                  "", ""};
  if (room < 2 * kGiB) {
    finding.state = State::kWarn;
    finding.cost = absl::StrCat("only models up to about ", BytesText(room), " can be loaded now");
    finding.remedy = "free memory, evict models, or raise the cgroup's limit";
  }
  return finding;
}

Finding SocketFolder(const NodeReadings& node) {
  if (!node.socket_dir_mode.has_value()) {
    return {"socket_folder", State::kFail, absl::StrCat(node.socket_dir, " does not exist"),
            "no client finds the daemon",
            "start weightd, or name its folder with --socket-dir or WEIGHTD_DIR"};
  }
  const std::string found = absl::StrFormat("%s has mode %04o", node.socket_dir,
                                            static_cast<unsigned>(*node.socket_dir_mode));
  if (!node.socket_dir_usable) {
    return {"socket_folder", State::kFail, found, "this user may not reach the daemon",
            "run as the daemon's user, or give this user a listener in the config"};
  }
  if ((*node.socket_dir_mode & 0002) != 0) {
    return {"socket_folder", State::kWarn, found,
            "any user may replace the sockets and pretend to be weightd",
            absl::StrCat("chmod o-w ", node.socket_dir)};
  }
  return {"socket_folder", State::kOk, found, "", ""};
}

Finding Daemon(const NodeReadings& node) {
  if (node.daemon_answer.ok()) {
    return {"daemon", State::kOk, absl::StrCat("weightd ", node.daemon_version, " answers"), "",
            ""};
  }
  return {"daemon", State::kFail, std::string(node.daemon_answer.message()),
          "nothing can be loaded or attached", HintOf(node.daemon_answer)};
}

std::string CudaText(int version) {
  return absl::StrCat("CUDA ", version / 1000, ".", version % 1000 / 10);
}

Finding CudaDriverOf(const NodeReadings& node) {
  constexpr char kCost[] =
      "no model goes into the memory of this node's GPUs; host memory is as ever";
  switch (node.cuda_library) {
    case NodeReadings::CudaLibrary::kUsable:
      return {"cuda_driver", State::kOk,
              absl::StrCat(CudaText(node.cuda_version), " (", node.cuda_path, ")"), "", ""};
    case NodeReadings::CudaLibrary::kMissing:
      if (node.nvidia_gpus == 0 && !node.cuda_driver_named) {
        return {"cuda_driver", State::kOk, "none, and no NVIDIA GPU on this node", "", ""};
      }
      break;
    case NodeReadings::CudaLibrary::kUnusable:
      break;
  }
  return {"cuda_driver", State::kWarn, std::string(node.cuda_answer.message()), kCost,
          node.nvidia_gpus > 0
              ? absl::StrCat(HintOf(node.cuda_answer),
                             "; in a container, give it the GPUs (the runtime mounts the driver)")
              : HintOf(node.cuda_answer)};
}

Finding Gpu(const v1::GpuStatus& gpu) {
  const std::string name =
      absl::StrCat(gpu.index(), " (", gpu.name(), ", ", gpu.uuid().substr(0, 12), ")");
  const uint64_t used = gpu.tier().resident() + gpu.tier().loading() + gpu.tier().draining();
  switch (gpu.state()) {
    case v1::GpuStatus::FAILED:
      return {"gpu", State::kWarn, absl::StrCat(name, ": its worker ended: ", gpu.last_error()),
              "what was there is lost, and loaded or copied again when it is next wanted",
              "if it ends again, look for Xid in dmesg and at nvidia-smi"};
    case v1::GpuStatus::DRAINED:
      return {"gpu", State::kWarn, absl::StrCat(name, ": drained by an operator"),
              "no model goes there", absl::StrCat("weightctl resume --gpu ", gpu.index())};
    default:
      return {"gpu", State::kOk,
              absl::StrCat(name, ": ", BytesText(used), " of ", BytesText(gpu.tier().budget()),
                           " used"),
              "", ""};
  }
}

// What the daemon has to say of each, or that it says nothing though the node has some.
std::vector<Finding> Gpus(const NodeReadings& node) {
  std::vector<Finding> findings;
  findings.reserve(node.gpus.size() + 1);
  for (const v1::GpuStatus& gpu : node.gpus) {
    findings.push_back(Gpu(gpu));
  }
  const bool usable = node.cuda_library == NodeReadings::CudaLibrary::kUsable;
  if (node.gpus.empty() && node.nvidia_gpus > 0 && usable && node.daemon_answer.ok()) {
    findings.push_back(
        {"gpu", State::kWarn,
         absl::StrCat("the daemon found none of the ", node.nvidia_gpus,
                      node.nvidia_gpus == 1 ? " GPU" : " GPUs", " of this node"),
         "no model goes into their memory",
         "gpu.none in the daemon's log says why; check its CUDA_VISIBLE_DEVICES, its "
         "container's GPUs, and whether nvidia-smi works, then start it again"});
  }
  return findings;
}

}  // namespace

const char* StateName(Finding::State state) {
  switch (state) {
    case State::kOk:
      return "ok";
    case State::kWarn:
      return "warn";
    case State::kFail:
      return "fail";
  }
  return "fail";
}

std::vector<Finding> Diagnose(const NodeReadings& node) {
  std::vector<Finding> findings = {
      Kernel(node),    HugePages(node), LockedMemory(node), Memory(node),       Overcommit(node),
      OpenFiles(node), IoUring(node),   CudaDriverOf(node), SocketFolder(node), Daemon(node)};
  for (Finding& gpu : Gpus(node)) {
    findings.push_back(std::move(gpu));
  }
  for (const auto& model : node.resident_models) {
    findings.push_back(ModelPages(model));
  }
  return findings;
}

}  // namespace weightd::cli
