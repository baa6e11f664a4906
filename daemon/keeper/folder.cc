#include "daemon/keeper/folder.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "daemon/fd_store/keeper_protocol.h"

namespace weightd::keeper {
namespace {

constexpr char kLockName[] = "keeper.lock";
constexpr char kTemporaryName[] = ".keeper.new";
constexpr int kBacklog = 64;
constexpr int kLockPollMs = 50;
constexpr int kPatienceMs = 3000;

std::string Because(const std::string& what) { return what + ": " + std::strerror(errno); }

std::string CheckOwner(const struct stat& found, const std::string& path) {
  if (found.st_uid != geteuid() && found.st_uid != 0) {
    return path + " belongs to user " + std::to_string(found.st_uid) +
           ", who could pose as the keeper: choose a folder of the keeper's own user";
  }
  if ((found.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return "others may write to " + path + " and so pose as the keeper: take that right from them";
  }
  return "";
}

bool IsSame(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

bool TakeLock(const Fd& lock) {
  for (int waited = 0; flock(lock.get(), LOCK_EX | LOCK_NB) != 0; waited += kLockPollMs) {
    if ((errno != EWOULDBLOCK && errno != EINTR) || waited >= kPatienceMs) {
      return false;
    }
    poll(nullptr, 0, kLockPollMs);
  }
  return true;
}

}  // namespace

Folder::~Folder() {
  struct stat found{};
  const std::string socket(fd_store::kKeeperSocket);
  if (folder_.valid() && inode_ != 0 &&
      fstatat(folder_.get(), socket.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0 &&
      found.st_dev == device_ && found.st_ino == inode_) {
    unlinkat(folder_.get(), socket.c_str(), 0);
  }
}

std::string Folder::Open(const std::string& path) {
  path_ = path;
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Because("can't make " + path);
  }
  folder_.Reset(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat found{};
  if (!folder_.valid() || fstat(folder_.get(), &found) != 0) {
    return Because("can't open " + path);
  }
  if (std::string problem = CheckOwner(found, path); !problem.empty()) {
    return problem;
  }
  lock_.Reset(openat(folder_.get(), kLockName, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock_.valid()) {
    return Because("can't open the lock of " + path);
  }
  return TakeLock(lock_) ? ""
                         : "another weightd-keeper serves " + path +
                               ": stop it first, or choose another folder";
}

Fd Folder::Listen(std::string& problem) {
  const std::string temporary = path_ + "/" + kTemporaryName;
  const std::string path = path_ + "/" + std::string(fd_store::kKeeperSocket);
  sockaddr_un address{};
  if (path.size() >= sizeof(address.sun_path) || temporary.size() >= sizeof(address.sun_path)) {
    problem = path + " is too long for a socket: choose a shorter folder";
    return {};
  }
  struct stat found{};
  if (lstat(path.c_str(), &found) == 0 && !S_ISSOCK(found.st_mode)) {
    problem = path + " exists and is no socket: move it away";
    return {};
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, temporary.data(), temporary.size());
  Fd listening(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  unlink(temporary.c_str());
  if (!listening.valid() ||
      bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      chmod(temporary.c_str(), 0600) != 0 || listen(listening.get(), kBacklog) != 0 ||
      lstat(temporary.c_str(), &found) != 0 || rename(temporary.c_str(), path.c_str()) != 0) {
    problem = Because("can't listen at " + path);
    return {};
  }
  device_ = found.st_dev;
  inode_ = found.st_ino;
  return listening;
}

bool Folder::IsFound() const {
  struct stat found{};
  const std::string path = path_ + "/" + std::string(fd_store::kKeeperSocket);
  return lstat(path.c_str(), &found) == 0 && found.st_dev == device_ && found.st_ino == inode_;
}

Fd Folder::ListenAgain(std::string& problem) {
  struct stat ours{};
  struct stat found{};
  // In another folder another keeper may serve.
  if (fstat(folder_.get(), &ours) != 0 || stat(path_.c_str(), &found) != 0 ||
      !IsSame(ours, found)) {
    problem = path_ + " was removed or replaced: start weightd-keeper again";
    return {};
  }
  if (!HoldsLock()) {
    problem = std::string(kLockName) + " was removed, and another weightd-keeper serves " + path_;
    return {};
  }
  return Listen(problem);
}

bool Folder::HoldsLock() {
  struct stat ours{};
  struct stat found{};
  if (fstatat(folder_.get(), kLockName, &found, AT_SYMLINK_NOFOLLOW) == 0) {
    return fstat(lock_.get(), &ours) == 0 && IsSame(ours, found);
  }
  // Whoever starts meanwhile takes the same file, and only one of us gets its lock.
  Fd lock(openat(folder_.get(), kLockName, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!lock.valid() || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return false;
  }
  lock_ = std::move(lock);
  return true;
}

}  // namespace weightd::keeper
