#ifndef WEIGHTD_CLIENT_CLI_NODE_READINGS_H_
#define WEIGHTD_CLIENT_CLI_NODE_READINGS_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "weightd/v1/admin.pb.h"

namespace weightd::cli {

inline constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// What the doctor judges: facts of this node, read at one moment.
struct NodeReadings {
  // As uname(2) gives it, such as "6.1.0-18-amd64".
  std::string kernel_release;
  // Whose limits the following are: the daemon's, or this process's if the daemon doesn't run.
  bool limits_are_the_daemons = false;
  // Bytes; kUnlimited without a limit.
  uint64_t memlock_limit = 0;
  // CAP_IPC_LOCK: the limit doesn't count.
  bool may_lock_all = false;
  uint64_t open_files_limit = 0;
  // Text of /sys/kernel/mm/transparent_hugepage/shmem_enabled; empty if the kernel has none.
  std::string shmem_enabled;
  // errno of io_uring_setup(2); 0 if it works.
  int io_uring_error = 0;
  // vm.overcommit_memory.
  int overcommit_memory = 0;

  std::string socket_dir;
  // Permission bits of the folder; nothing if it is not there.
  std::optional<uint32_t> socket_dir_mode;
  bool socket_dir_usable = false;
  // Of a GetStatus.
  absl::Status daemon_answer;
  std::string daemon_version;
  struct ResidentModel {
    std::string name;
    uint64_t bytes = 0;
    double huge_page_fraction = 0;
  };
  std::vector<ResidentModel> resident_models;
  // By index.
  std::vector<v1::GpuStatus> gpus;

  // NVIDIA's on the PCI bus, whether or not this process may use them.
  int nvidia_gpus = 0;
  // Whether a path of the CUDA driver was given, and so it is to be there.
  bool cuda_driver_named = false;
  enum class CudaLibrary {
    kMissing,
    kUnusable,  // it is there, but too old, or lacks something
    kUsable,
  };
  CudaLibrary cuda_library = CudaLibrary::kMissing;
  // Why it is not usable, with a hint.
  absl::Status cuda_answer;
  // 12040 for CUDA 12.4.
  int cuda_version = 0;
  std::string cuda_path;

  uint64_t memory_total = 0;
  uint64_t memory_available = 0;
  // Of this process's memory cgroup: kUnlimited if it has no limit.
  uint64_t cgroup_limit = kUnlimited;
  uint64_t cgroup_used = 0;
};

// Reads this node, and asks the daemon in `socket_dir`. Looks for the CUDA driver in the library
// `cuda_driver`, or, if that is empty, where the system has it; touches no GPU. What can't be read
// keeps its default.
NodeReadings ReadNode(const std::string& socket_dir, const std::string& cuda_driver = {});

// Lets shared memory have huge pages where it is asked for. NOT_ALLOWED without root.
absl::Status AllowHugePagesForSharedMemory();

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_NODE_READINGS_H_
