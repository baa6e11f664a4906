#include "daemon/service/socket_place.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::service {
namespace {

namespace fs = std::filesystem;

absl::Status NotTrusted(const std::string& path, const fs::path& folder) {
  return Error(Reason::kNotAllowed,
               absl::StrCat("the socket folder ", path,
                            " can't be given away: others than root and the daemon's user may "
                            "change what ",
                            folder.string(), " leads to"),
               "choose one below folders to which only they may write, or leave `owner` out");
}

// Whether others can't change what is in the folder, or where the link leads.
bool IsTrusted(const struct stat& found) {
  if (found.st_uid != 0 && found.st_uid != geteuid()) {
    return false;
  }
  // Whose mode a link has means nothing.
  if (S_ISLNK(found.st_mode) || (found.st_mode & S_ISVTX) != 0) {
    return true;
  }
  const bool group = (found.st_mode & S_IWGRP) != 0 && found.st_gid != 0;
  return !group && (found.st_mode & S_IWOTH) == 0;
}

absl::Status CheckAll(const std::string& path, const fs::path& folder) {
  fs::path so_far;
  for (const fs::path& part : folder) {
    so_far /= part;
    struct stat found{};
    if (lstat(so_far.c_str(), &found) != 0) {
      return ErrnoError(errno, absl::StrCat("stat ", so_far.string()));
    }
    if (!IsTrusted(found)) {
      return NotTrusted(path, so_far);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTrustedPlace(const std::string& path) {
  std::error_code error;
  const fs::path folder = fs::absolute(path, error).lexically_normal().parent_path();
  RETURN_IF_ERROR(CheckAll(path, folder));
  // Links are trusted by now, and so may be followed.
  const fs::path real = fs::canonical(folder, error);
  if (error) {
    return ErrnoError(error.value(), absl::StrCat("look up ", folder.string()));
  }
  return CheckAll(path, real);
}

absl::Status CheckParent(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
  struct stat about = {};
  if (parent.empty() || stat(parent.c_str(), &about) == 0 || errno != ENOENT) {
    return absl::OkStatus();
  }
  return Error(Reason::kInvalidArgument,
               absl::StrCat("the socket folder ", path, " can't be made: there is no ", parent),
               absl::StrCat("make the folder ", parent, ", or configure another place"));
}

}  // namespace weightd::service
