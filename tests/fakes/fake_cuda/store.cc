#include "tests/fakes/fake_cuda/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace weightd::fake_cuda {
namespace {

// Other users' processes take part too, whatever our umask.
constexpr mode_t kFileMode = 0666;
constexpr mode_t kFolderMode = 0777;
constexpr absl::string_view kAllocation = "allocation-";
constexpr absl::string_view kProcess = "process-";

std::string DeviceDir(const std::string& dir, int ordinal) {
  return absl::StrCat(dir, "/gpu", ordinal);
}

std::string ProcessPath(const std::string& dir, int ordinal, int pid) {
  return absl::StrCat(DeviceDir(dir, ordinal), "/", kProcess, pid);
}

[[noreturn]] void Die(const std::string& what) {
  std::perror(absl::StrCat("fake_cuda: ", what).c_str());
  std::abort();
}

Fd OpenShared(const std::string& path, int flags) {
  Fd file(open(path.c_str(), flags | O_RDWR | O_CREAT | O_CLOEXEC, kFileMode));
  if (file.valid()) {
    fchmod(file.get(), kFileMode);
  }
  return file;
}

void MakeDeviceDir(const std::string& dir, int ordinal) {
  const std::string path = DeviceDir(dir, ordinal);
  if (mkdir(path.c_str(), kFolderMode) == 0) {
    chmod(path.c_str(), kFolderMode);
  } else if (errno != EEXIST) {
    Die(path);
  }
}

std::string NameOf(int pid, uint64_t sequence) {
  return absl::StrCat(kAllocation, pid, "-", sequence);
}

bool ParseName(absl::string_view name, AllocationFile* allocation) {
  if (!absl::ConsumePrefix(&name, kAllocation)) {
    return false;
  }
  const std::vector<absl::string_view> numbers = absl::StrSplit(name, '-');
  return numbers.size() == 2 && absl::SimpleAtoi(numbers[0], &allocation->pid) &&
         absl::SimpleAtoi(numbers[1], &allocation->sequence);
}

uint64_t SizeOf(int fd) {
  struct stat status = {};
  return fstat(fd, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

// A lock of the process, not of an open file: a fork's child has no part in it. Its rule is that
// closing any descriptor of the file drops it, so a process opens its own file once.
struct flock WholeFile() {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

bool OnDeviceLocked(const std::string& dir, int ordinal, int pid) {
  const std::string path = ProcessPath(dir, ordinal, pid);
  if (pid == getpid()) {
    return access(path.c_str(), F_OK) == 0;
  }
  const Fd file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct flock lock = WholeFile();
  return file.valid() && fcntl(file.get(), F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

std::pair<uint64_t, uint64_t> ReadCreated(const std::string& device_dir) {
  std::pair<uint64_t, uint64_t> created = {0, 0};
  std::ifstream(device_dir + "/created") >> created.first >> created.second;
  return created;
}

void CountCreated(const std::string& device_dir, uint64_t bytes) {
  const auto [allocations, before] = ReadCreated(device_dir);
  const std::string text = absl::StrCat(allocations + 1, " ", before + bytes, "\n");
  const Fd file = OpenShared(device_dir + "/created", O_TRUNC);
  if (write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    Die(device_dir + "/created");
  }
}

Usage ReadUsageLocked(const std::string& dir, int ordinal) {
  Usage usage;
  const std::string device_dir = DeviceDir(dir, ordinal);
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(device_dir, none)) {
    const std::string name = entry.path().filename();
    absl::string_view rest = name;
    int pid = 0;
    if (absl::ConsumePrefix(&rest, kAllocation)) {
      const Fd file(open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
      if (flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
        unlink(entry.path().c_str());
      } else {
        ++usage.live_allocations;
        usage.live_bytes += SizeOf(file.get());
      }
    } else if (absl::ConsumePrefix(&rest, kProcess) && absl::SimpleAtoi(rest, &pid)) {
      if (OnDeviceLocked(dir, ordinal, pid)) {
        usage.processes.push_back(pid);
      } else {
        unlink(entry.path().c_str());
      }
    }
  }
  std::tie(usage.created_allocations, usage.created_bytes) = ReadCreated(device_dir);
  return usage;
}

}  // namespace

FolderLock::FolderLock(const std::string& dir) : file_(OpenShared(dir + "/lock", 0)) {
  while (flock(file_.get(), LOCK_EX) != 0) {
    if (errno != EINTR) {
      Die(dir + "/lock");
    }
  }
}

cuda::CUresult CreateAllocation(const std::string& dir, int ordinal, uint64_t capacity,
                                uint64_t bytes, AllocationFile* created) {
  const FolderLock lock(dir);
  MakeDeviceDir(dir, ordinal);
  const uint64_t live = ReadUsageLocked(dir, ordinal).live_bytes;
  if (live > capacity || bytes > capacity - live) {
    return cuda::CUDA_ERROR_OUT_OF_MEMORY;
  }
  created->ordinal = ordinal;
  created->pid = getpid();
  created->bytes = bytes;
  const std::string device_dir = DeviceDir(dir, ordinal);
  // Names are taken by who had our pid before, if others still hold their memory.
  do {
    ++created->sequence;
    created->file =
        OpenShared(absl::StrCat(device_dir, "/", NameOf(created->pid, created->sequence)), O_EXCL);
  } while (!created->file.valid() && errno == EEXIST);
  if (!created->file.valid() || flock(created->file.get(), LOCK_SH) != 0 ||
      ftruncate(created->file.get(), static_cast<off_t>(bytes)) != 0) {
    Die(device_dir);
  }
  CountCreated(device_dir, bytes);
  return cuda::CUDA_SUCCESS;
}

cuda::CUresult ImportAllocation(const std::string& dir, int fd, AllocationFile* imported) {
  std::error_code error;
  const std::filesystem::path path =
      std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", fd), error);
  const std::string parent = path.parent_path();
  absl::string_view ordinal = parent;
  if (error || !absl::ConsumePrefix(&ordinal, dir) || !absl::ConsumePrefix(&ordinal, "/gpu") ||
      !absl::SimpleAtoi(ordinal, &imported->ordinal) ||
      !ParseName(path.filename().string(), imported)) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  imported->file = Fd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  imported->bytes = SizeOf(imported->file.get());
  return imported->file.valid() ? cuda::CUDA_SUCCESS : cuda::CUDA_ERROR_INVALID_VALUE;
}

cuda::CUresult OpenAllocation(const std::string& dir, int ordinal, int pid, uint64_t sequence,
                              AllocationFile* opened) {
  const FolderLock lock(dir);
  ReadUsageLocked(dir, ordinal);  // what nobody holds is gone
  const std::string path = absl::StrCat(DeviceDir(dir, ordinal), "/", NameOf(pid, sequence));
  opened->file = Fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!opened->file.valid() || !OnDeviceLocked(dir, ordinal, pid) ||
      flock(opened->file.get(), LOCK_SH) != 0) {
    return cuda::CUDA_ERROR_INVALID_VALUE;
  }
  opened->ordinal = ordinal;
  opened->pid = pid;
  opened->sequence = sequence;
  opened->bytes = SizeOf(opened->file.get());
  return cuda::CUDA_SUCCESS;
}

Fd EnterDevice(const std::string& dir, int ordinal) {
  const FolderLock lock(dir);
  MakeDeviceDir(dir, ordinal);
  const std::string path = ProcessPath(dir, ordinal, getpid());
  Fd file = OpenShared(path, 0);
  struct flock whole = WholeFile();
  if (!file.valid() || fcntl(file.get(), F_SETLK, &whole) != 0) {
    Die(path);
  }
  return file;
}

void LeaveDevice(const std::string& dir, int ordinal, Fd entered) {
  const FolderLock lock(dir);
  unlink(ProcessPath(dir, ordinal, getpid()).c_str());
  entered.Reset();
}

bool IsOnDevice(const std::string& dir, int ordinal, int pid) {
  const FolderLock lock(dir);
  return OnDeviceLocked(dir, ordinal, pid);
}

Usage ReadUsage(const std::string& dir, int ordinal) {
  const FolderLock lock(dir);
  return ReadUsageLocked(dir, ordinal);
}

}  // namespace weightd::fake_cuda
