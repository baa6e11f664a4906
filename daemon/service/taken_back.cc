#include "daemon/service/taken_back.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status.h"

namespace weightd::service {

absl::StatusOr<TakenBack> TakenBack::Take(Fd place, const Owner& owner, mode_t mode,
                                          const std::string& path) {
  struct stat found{};
  if (fstat(place.get(), &found) != 0) {
    return ErrnoError(errno, absl::StrCat("stat ", path));
  }
  const bool given_before = owner.foreign() && found.st_uid == *owner.user;
  TakenBack taken(std::move(place), found, given_before);
  if (given_before && !(taken.Give(geteuid()) && taken.SetMode(mode))) {
    return CanNotGive(path, errno);
  }
  return taken;
}

TakenBack::TakenBack(Fd place, struct stat found, bool given_before)
    : place_(std::move(place)),
      found_(found),
      given_before_(given_before),
      put_back_(given_before) {}

TakenBack::TakenBack(TakenBack&& other) noexcept
    : place_(std::move(other.place_)),
      found_(other.found_),
      given_before_(other.given_before_),
      put_back_(std::exchange(other.put_back_, false)) {}

TakenBack::~TakenBack() {
  if (put_back_) {
    // While it is ours: only its owner may set a folder's mode.
    SetMode(found_.st_mode & 07777);
    Give(found_.st_uid);
  }
}

Fd TakenBack::Open() const {
  return Fd(openat(place_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

bool TakenBack::Give(uid_t user) const {
  return fchownat(place_.get(), "", user, static_cast<gid_t>(-1), AT_EMPTY_PATH) == 0;
}

bool TakenBack::SetMode(mode_t mode) const {
  // fchmod(2) takes no O_PATH descriptor.
  return chmod(absl::StrCat("/proc/self/fd/", place_.get()).c_str(), mode) == 0;
}

absl::Status ClearAway(const Fd& folder, absl::string_view name) {
  const std::string entry(name);
  if (unlinkat(folder.get(), entry.c_str(), 0) == 0 || errno == ENOENT) {
    return absl::OkStatus();
  }
  // A name that nobody can have foreseen.
  uint64_t number = 0;
  if (getrandom(&number, sizeof(number), 0) != sizeof(number)) {
    return ErrnoError(errno, "ask for a random number");
  }
  const std::string aside = absl::StrFormat("moved-%016x", number);
  if (renameat(folder.get(), entry.c_str(), folder.get(), aside.c_str()) != 0) {
    return ErrnoError(errno, absl::StrCat("clear ", entry, " away from a socket folder"));
  }
  return absl::OkStatus();
}

absl::Status CanNotGive(absl::string_view path, int error) {
  if (error == EINVAL) {
    return Error(Reason::kNotAllowed,
                 absl::StrCat("weightd may not change the owner of ", path,
                              ": its user namespace has no such user or group"),
                 "map it into the namespace, or leave `owner` of the listener out");
  }
  if (error != EPERM) {
    return ErrnoError(error, absl::StrCat("change the owner of ", path));
  }
  return Error(Reason::kNotAllowed,
               absl::StrCat("weightd may not change the owner of ", path, ": it lacks CAP_CHOWN"),
               "run it with CAP_CHOWN or as root, or leave `owner` of the listener out");
}

}  // namespace weightd::service
