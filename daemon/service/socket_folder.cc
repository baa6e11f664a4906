#include "daemon/service/socket_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/service/socket_place.h"
#include "daemon/service/taken_back.h"

namespace weightd::service {
namespace {

constexpr absl::string_view kLockName = "weightd.lock";
// Shorter than any of the final names, so that whatever fits them fits it too.
constexpr absl::string_view kTemporaryName = ".sock.new";
constexpr int kBacklog = 512;
constexpr absl::Duration kLockPoll = absl::Milliseconds(50);
// Of Linux 6.16; younger than Debian's headers.
constexpr int kPassRights = 83;  // SO_PASSRIGHTS
// The kernel drops a dying process's lock and its sockets in no particular order, but in one go.
constexpr absl::Duration kSocketsFollowLock = absl::Milliseconds(500);

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("socket path ", path, " has ", path.size(),
                              " bytes; the kernel allows ", sizeof(address.sun_path) - 1),
                 "choose a shorter socket folder");
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

enum class Peer { kNone, kListening };

// Whether anybody listens at `path`. A full backlog counts: somebody's there, if only busy.
Peer Probe(const std::string& path, int type, Fd* connected) {
  const absl::StatusOr<sockaddr_un> address = AddressOf(path);
  Fd probe(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!address.ok() || !probe.valid()) {
    return Peer::kNone;
  }
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) == 0) {
    if (connected != nullptr) {
      *connected = std::move(probe);
    }
    return Peer::kListening;
  }
  return errno == EAGAIN ? Peer::kListening : Peer::kNone;
}

// Whether a daemon that is not dying serves handles.sock: it greets every connection. The sockets
// of a dying one still accept connections, by the kernel's hand, but nothing comes.
bool Greets(const std::string& path) {
  Fd connected;
  if (Probe(path, SOCK_SEQPACKET, &connected) == Peer::kNone || !connected.valid()) {
    return false;
  }
  pollfd ready{connected.get(), POLLIN, 0};
  if (poll(&ready, 1, 500) != 1) {
    return false;
  }
  char byte = 0;
  return recv(connected.get(), &byte, 1, MSG_DONTWAIT) > 0;
}

// Whether a folder that we found is for us alone: fresh, or one that a weightd has served in. The
// mode of any other is its owner's business.
bool IsOurs(const Fd& folder) {
  if (faccessat(folder.get(), kLockName.data(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
    return true;
  }
  DIR* const entries = fdopendir(openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (entries == nullptr) {
    return false;
  }
  bool empty = true;
  for (const dirent* entry = readdir(entries); entry != nullptr; entry = readdir(entries)) {
    const absl::string_view name = entry->d_name;
    empty = empty && (name == "." || name == "..");
  }
  closedir(entries);
  return empty;
}

uid_t UserOf(const Owner& owner) { return owner.user.value_or(static_cast<uid_t>(-1)); }
gid_t GroupOf(const Owner& owner) { return owner.group.value_or(static_cast<gid_t>(-1)); }

absl::Status SetModeAndGroup(const Fd& folder, const SocketFolderOptions& options) {
  if (fchmod(folder.get(), options.mode) != 0) {
    return ErrnoError(errno, absl::StrCat("set the mode of ", options.path));
  }
  if (options.owner.group.has_value() &&
      fchown(folder.get(), static_cast<uid_t>(-1), *options.owner.group) != 0) {
    return CanNotGive(options.path, errno);
  }
  return absl::OkStatus();
}

absl::Status CheckFolder(const Fd& folder, bool given_before, const SocketFolderOptions& options) {
  struct stat found{};
  if (fstat(folder.get(), &found) != 0) {
    return ErrnoError(errno, absl::StrCat("stat ", options.path));
  }
  if (found.st_uid == geteuid() && (given_before || IsOurs(folder))) {
    return SetModeAndGroup(folder, options);
  }
  if (found.st_uid != geteuid() && found.st_uid != 0) {
    return Error(
        Reason::kNotAllowed,
        absl::StrFormat("the socket folder %s belongs to user %d", options.path, found.st_uid),
        "whoever owns the folder can pose as weightd: choose one of the daemon's own user");
  }
  if (options.owner.user.has_value() || options.owner.group.has_value()) {
    return Error(
        Reason::kNotAllowed,
        absl::StrCat("the socket folder ", options.path,
                     " is not weightd's alone, so it does not get the owner of its listener"),
        "give the listener a folder of its own, or leave `owner` out");
  }
  if ((found.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Error(Reason::kNotAllowed,
                 absl::StrFormat("others may write to the socket folder %s (mode %o)", options.path,
                                 found.st_mode & 07777),
                 "whoever can replace the sockets can pose as weightd: give them a folder of their "
                 "own");
  }
  return absl::OkStatus();
}

absl::StatusOr<TakenBack> FindFolder(const SocketFolderOptions& options) {
  RETURN_IF_ERROR(CheckParent(options.path));
  // From here on its path means this folder to us, and to its owner.
  int follow = 0;
  if (options.owner.foreign()) {
    RETURN_IF_ERROR(CheckTrustedPlace(options.path));
    follow = O_NOFOLLOW;
  }
  if (mkdir(options.path.c_str(), options.mode) != 0 && errno != EEXIST) {
    return ErrnoError(errno, absl::StrCat("create the socket folder ", options.path));
  }
  Fd place(open(options.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | follow));
  if (!place.valid()) {
    return ErrnoError(errno, absl::StrCat("open the socket folder ", options.path));
  }
  return TakenBack::Take(std::move(place), options.owner, options.mode, options.path);
}

// A lock that the folder's owner made is no lock: they could hold it for ever.
absl::StatusOr<Fd> OpenLock(const Fd& folder, const SocketFolderOptions& options) {
  const auto open_lock = [&] {
    return Fd(
        openat(folder.get(), kLockName.data(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  };
  Fd lock = open_lock();
  int error = errno;
  struct stat found{};
  const bool ours = lock.valid() && fstat(lock.get(), &found) == 0 && S_ISREG(found.st_mode) &&
                    found.st_uid == geteuid();
  if (options.owner.foreign() && !ours) {
    RETURN_IF_ERROR(ClearAway(folder, kLockName));
    lock = open_lock();
    error = errno;
  }
  if (!lock.valid()) {
    return ErrnoError(error, absl::StrCat("open the lock file of ", options.path));
  }
  return lock;
}

// Waits as SocketFolderOptions says.
absl::Status TakeLock(const Fd& lock, const SocketFolderOptions& options,
                      Cancellation& cancellation) {
  absl::Time give_up = absl::InfiniteFuture();
  bool told = false;
  while (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return ErrnoError(errno, absl::StrCat("lock the socket folder ", options.path));
    }
    RETURN_IF_ERROR(cancellation.status());
    if (absl::Now() >= give_up) {
      return Error(Reason::kTooManyRequests, absl::StrCat("another weightd serves ", options.path),
                   "stop it first, or choose another socket folder");
    }
    if (!told) {
      told = true;
      options.on_wait(
          absl::StrCat("another weightd holds ", options.path, "; waiting for it to end"));
      if (Greets(absl::StrCat(options.path, "/", kHandlesSocket))) {
        give_up = absl::Now() + options.patience;
      }
    }
    absl::SleepFor(kLockPoll);
  }
  return absl::OkStatus();
}

}  // namespace

SocketFolder::SocketFolder(SocketFolderOptions options, Fd folder, Fd lock)
    : options_(std::move(options)), folder_(std::move(folder)), lock_(std::move(lock)) {}

SocketFolder::~SocketFolder() { Unbind(); }

absl::StatusOr<std::unique_ptr<SocketFolder>> SocketFolder::Open(SocketFolderOptions options,
                                                                 Cancellation& cancellation) {
  if (options.path.empty()) {
    return Error(Reason::kInvalidArgument, "the socket folder has no name");
  }
  RETURN_IF_ERROR(AddressOf(absl::StrCat(options.path, "/", kHandlesSocket)).status());
  ASSIGN_OR_RETURN(TakenBack taken, FindFolder(options));
  Fd folder = taken.Open();
  if (!folder.valid()) {
    return ErrnoError(errno, absl::StrCat("open the socket folder ", options.path));
  }
  RETURN_IF_ERROR(CheckFolder(folder, taken.given_before(), options));
  ASSIGN_OR_RETURN(Fd lock, OpenLock(folder, options));
  RETURN_IF_ERROR(TakeLock(lock, options, cancellation));
  taken.Keep();
  return std::unique_ptr<SocketFolder>(
      new SocketFolder(std::move(options), std::move(folder), std::move(lock)));
}

std::string SocketFolder::PathOf(absl::string_view name) const {
  return absl::StrCat(options_.path, "/", name);
}

absl::Status SocketFolder::CheckFree(absl::string_view name, int type) const {
  const std::string path = PathOf(name);
  if (options_.owner.foreign()) {
    RETURN_IF_ERROR(ClearAway(folder_, kTemporaryName));
    return ClearAway(folder_, name);
  }
  struct stat found{};
  if (lstat(path.c_str(), &found) == 0 && !S_ISSOCK(found.st_mode)) {
    return Error(Reason::kInvalidArgument, absl::StrCat(path, " exists and is no socket"),
                 "move it away");
  }
  const absl::Time give_up = absl::Now() + kSocketsFollowLock;
  while (Probe(path, type, nullptr) == Peer::kListening) {
    if (absl::Now() >= give_up) {
      return Error(Reason::kTooManyRequests, absl::StrCat("somebody else serves ", path),
                   "stop it first, or choose another socket folder");
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  return absl::OkStatus();
}

absl::StatusOr<Fd> SocketFolder::Bind(absl::string_view name, int type, mode_t mode) {
  const std::string path = PathOf(name);
  RETURN_IF_ERROR(AddressOf(path).status());
  RETURN_IF_ERROR(CheckFree(name, type));
  const std::string temporary = PathOf(kTemporaryName);
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(temporary));
  Fd listening(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listening.valid()) {
    return ErrnoError(errno, "make a socket");
  }
  // Nobody who connects has any to send, and connections inherit it.
  constexpr int kOff = 0;
  setsockopt(listening.get(), SOL_SOCKET, kPassRights, &kOff, sizeof(kOff));
  unlink(temporary.c_str());
  struct stat folder{};
  struct stat found{};
  if (bind(listening.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      chmod(temporary.c_str(), mode) != 0 || listen(listening.get(), kBacklog) != 0 ||
      fstat(folder_.get(), &folder) != 0 || lstat(temporary.c_str(), &found) != 0) {
    return ErrnoError(errno, absl::StrCat("bind ", path));
  }
  // The group that the mode means is the one that the folder lets in.
  const bool for_group = (mode & 0060) != 0 && (mode & 0006) == 0 && folder.st_gid != found.st_gid;
  const uid_t user = UserOf(options_.owner);
  const gid_t group = for_group ? folder.st_gid : GroupOf(options_.owner);
  // A service that gives nothing away may be barred from the call.
  const bool stays = user == static_cast<uid_t>(-1) && group == static_cast<gid_t>(-1);
  if (!stays && lchown(temporary.c_str(), user, group) != 0) {
    return CanNotGive(path, errno);
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("bind ", path));
  }
  absl::MutexLock lock(&mutex_);
  bound_.push_back({std::string(name), found.st_dev, found.st_ino});
  return listening;
}

absl::Status SocketFolder::GiveAway() {
  if (options_.owner.foreign() &&
      fchown(folder_.get(), *options_.owner.user, static_cast<gid_t>(-1)) != 0) {
    return CanNotGive(options_.path, errno);
  }
  return absl::OkStatus();
}

bool SocketFolder::Serves() const {
  absl::MutexLock lock(&mutex_);
  const bool serves = options_.owner.foreign() ||
                      std::all_of(bound_.begin(), bound_.end(), [this](const Bound& bound) {
                        struct stat found{};
                        if (lstat(PathOf(bound.name).c_str(), &found) != 0) {
                          return errno != ENOENT && errno != ENOTDIR;
                        }
                        return found.st_dev == bound.device && found.st_ino == bound.inode;
                      });
  if (!serves && !told_) {
    told_ = true;
    options_.on_lost();
  }
  return serves;
}

void SocketFolder::Unbind() {
  absl::MutexLock lock(&mutex_);
  if (options_.owner.foreign() && !bound_.empty()) {
    // Without it the sockets stay, for the next daemon to replace.
    [[maybe_unused]] const int taken_back =
        fchown(folder_.get(), geteuid(), static_cast<gid_t>(-1));
  }
  for (const Bound& bound : bound_) {
    struct stat found{};
    if (fstatat(folder_.get(), bound.name.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0 &&
        found.st_dev == bound.device && found.st_ino == bound.inode) {
      unlinkat(folder_.get(), bound.name.c_str(), 0);
    }
  }
  bound_.clear();
}

bool RefusesDescriptors(const Fd& listening) {
  int passes = 1;
  socklen_t size = sizeof(passes);
  return getsockopt(listening.get(), SOL_SOCKET, kPassRights, &passes, &size) == 0 && passes == 0;
}

}  // namespace weightd::service
