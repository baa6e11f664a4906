#include "client/cli/node_readings.h"

#include <dlfcn.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/cpp/admin_client.h"
#include "common/cuda_driver.h"
#include "common/fd.h"
#include "common/huge_pages.h"
#include "common/status.h"

namespace weightd::cli {
namespace {

constexpr absl::Duration kDaemonPatience = absl::Seconds(3);

// Empty if it can't be read.
std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return std::string(absl::StripAsciiWhitespace(text.str()));
}

// "Name:   123 kB" in `text`, in bytes; 0 if it isn't there.
uint64_t KilobytesLine(absl::string_view text, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t value = 0;
    if (words.size() >= 2 && words[0] == name && absl::SimpleAtoi(words[1], &value)) {
      return value << 10;
    }
  }
  return 0;
}

uint64_t Limit(absl::string_view text) {
  uint64_t value = 0;
  return absl::SimpleAtoi(text, &value) ? value : kUnlimited;
}

// The soft limit in /proc/PID/limits: "Max open files            1024                 524288 …".
uint64_t LimitLine(absl::string_view text, absl::string_view name, uint64_t otherwise) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::ConsumePrefix(&line, name)) {
      const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      return words.empty() ? otherwise : Limit(words[0]);
    }
  }
  return otherwise;
}

bool HasCapability(absl::string_view proc_status, int capability) {
  for (absl::string_view line : absl::StrSplit(proc_status, '\n')) {
    uint64_t mask = 0;
    if (absl::ConsumePrefix(&line, "CapEff:") &&
        absl::SimpleHexAtoi(absl::StripAsciiWhitespace(line), &mask)) {
      return (mask >> capability & 1) != 0;
    }
  }
  return false;
}

int TryIoUring() {
  io_uring_params params{};
  const Fd ring(static_cast<int>(syscall(__NR_io_uring_setup, 1, &params)));
  return ring.valid() ? 0 : errno;
}

// Who listens on a UNIX socket, by what the kernel says; 0 if nobody does.
pid_t PeerOf(const std::string& path) {
  const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return 0;
  }
  return peer.pid;
}

void ReadLimits(NodeReadings& node) {
  const pid_t daemon = PeerOf(absl::StrCat(node.socket_dir, "/admin.sock"));
  std::string process = absl::StrCat("/proc/", daemon);
  node.limits_are_the_daemons = daemon > 0 && !ReadText(process + "/limits").empty();
  if (!node.limits_are_the_daemons) {
    process = "/proc/self";
  }
  const std::string limits = ReadText(process + "/limits");
  node.memlock_limit = LimitLine(limits, "Max locked memory", 0);
  node.open_files_limit = LimitLine(limits, "Max open files", 0);
  node.may_lock_all = HasCapability(ReadText(process + "/status"), CAP_IPC_LOCK);
}

// `line` of /proc/self/cgroup is "0::/path" for the version 2 hierarchy, "4:memory:/path" for
// version 1's of memory.
void ReadCgroup(absl::string_view line, NodeReadings& node) {
  const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
  const bool v1 = fields.size() == 3 && fields[1] == "memory";
  if (fields.size() != 3 || (!v1 && !fields[1].empty())) {
    return;
  }
  const std::string root = v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup";
  // In a container its own cgroup is often all that is mounted, and then as the root.
  for (const std::string& folder : {absl::StrCat(root, fields[2]), root}) {
    const std::string limit = ReadText(folder + (v1 ? "/memory.limit_in_bytes" : "/memory.max"));
    const std::string used = ReadText(folder + (v1 ? "/memory.usage_in_bytes" : "/memory.current"));
    uint64_t used_bytes = 0;
    if (limit.empty() || !absl::SimpleAtoi(used, &used_bytes)) {
      continue;
    }
    // Version 1 says "no limit" with the largest number of whole pages.
    if (const uint64_t bytes = Limit(limit); bytes < uint64_t{1} << 62) {
      node.cgroup_limit = bytes;
      node.cgroup_used = used_bytes;
    }
    return;
  }
}

void ReadMemory(NodeReadings& node) {
  const std::string memory = ReadText("/proc/meminfo");
  node.memory_total = KilobytesLine(memory, "MemTotal:");
  node.memory_available = KilobytesLine(memory, "MemAvailable:");
  node.overcommit_memory = 0;
  static_cast<void>(
      absl::SimpleAtoi(ReadText("/proc/sys/vm/overcommit_memory"), &node.overcommit_memory));
  const std::string cgroups = ReadText("/proc/self/cgroup");
  for (absl::string_view line : absl::StrSplit(cgroups, '\n')) {
    ReadCgroup(line, node);
  }
}

absl::Status AskDaemon(NodeReadings& node) {
  ASSIGN_OR_RETURN(const auto client,
                   client::AdminClient::Connect({node.socket_dir, kDaemonPatience}));
  ASSIGN_OR_RETURN(const auto status, client.GetStatus());
  node.daemon_version = status.version();
  node.gpus.assign(status.gpus().begin(), status.gpus().end());
  ASSIGN_OR_RETURN(const auto models, client.ListModels());
  for (const v1::ModelSummary& model : models) {
    if (model.state() != v1::RESIDENT) {
      continue;
    }
    // Evicted meanwhile, perhaps: then there is nothing to say of it.
    const auto described = client.DescribeModel(model.model(), /*tensors=*/false);
    if (described.ok()) {
      node.resident_models.push_back(
          {model.model(), model.host_bytes(), described->huge_page_fraction()});
    }
  }
  return absl::OkStatus();
}

int CountNvidiaGpus() {
  int count = 0;
  std::error_code error;
  // A folder for each device; class 03xxxx is a display or 3D controller (PCI Code and ID
  // Assignment Specification).
  for (const auto& device : std::filesystem::directory_iterator("/sys/bus/pci/devices", error)) {
    const bool is_nvidia = ReadText(device.path() / "vendor") == "0x10de";
    count += is_nvidia && absl::StartsWith(ReadText(device.path() / "class"), "0x03") ? 1 : 0;
  }
  return count;
}

void ReadCudaDriver(const std::string& given, NodeReadings& node) {
  node.nvidia_gpus = CountNvidiaGpus();
  node.cuda_driver_named = !given.empty();
  node.cuda_path = given.empty() ? std::string(CudaDriver::kLibrary) : given;
  const auto driver = CudaDriver::Load(node.cuda_path);
  if (driver.ok()) {
    node.cuda_library = NodeReadings::CudaLibrary::kUsable;
    node.cuda_version = (*driver)->version();
    return;
  }
  node.cuda_answer = driver.status();
  // A library that was loaded stays so.
  if (void* const there = dlopen(node.cuda_path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
    dlclose(there);
    node.cuda_library = NodeReadings::CudaLibrary::kUnusable;
  }
}

void ReadFolder(NodeReadings& node) {
  struct stat info{};
  if (stat(node.socket_dir.c_str(), &info) == 0) {
    node.socket_dir_mode = info.st_mode & 07777;
  }
  node.socket_dir_usable = access(node.socket_dir.c_str(), R_OK | X_OK) == 0;
}

}  // namespace

NodeReadings ReadNode(const std::string& socket_dir, const std::string& cuda_driver) {
  NodeReadings node;
  node.socket_dir = socket_dir;
  utsname system{};
  if (uname(&system) == 0) {
    node.kernel_release = system.release;
  }
  node.shmem_enabled = ReadShmemEnabled();
  node.io_uring_error = TryIoUring();
  ReadMemory(node);
  ReadFolder(node);
  ReadLimits(node);
  ReadCudaDriver(cuda_driver, node);
  node.daemon_answer = AskDaemon(node);
  return node;
}

absl::Status AllowHugePagesForSharedMemory() {
  std::ofstream file(kShmemEnabledPath);
  file << "advise" << std::flush;
  if (!file.good()) {
    return Error(Reason::kNotAllowed, absl::StrCat("could not write to ", kShmemEnabledPath),
                 "run weightctl doctor --fix as root, on the node itself");
  }
  return absl::OkStatus();
}

}  // namespace weightd::cli
