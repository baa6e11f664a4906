#include "daemon/file_watch.h"

#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd {
namespace {

// As the kernel allows.
constexpr int kMostLinks = 40;

// Where something has to happen for `path` to lead to another file: its folder, and that of every
// symbolic link on the way.
void AddFolders(const std::filesystem::path& path, int links, std::set<std::string>& folders) {
  std::filesystem::path way;
  for (const std::filesystem::path& part : path) {
    const std::filesystem::path folder = way;
    way /= part;
    std::error_code not_a_link;
    const std::filesystem::path target = std::filesystem::read_symlink(way, not_a_link);
    if (!not_a_link && links < kMostLinks) {
      folders.insert(folder);
      AddFolders(folder / target, links + 1, folders);
    }
  }
  folders.insert(path.parent_path());
}

}  // namespace

absl::StatusOr<FileWatch> FileWatch::Of(std::string path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) {
    return ErrnoError(error.value(), absl::StrCat("find ", path));
  }
  Fd inotify(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify.valid()) {
    return ErrnoError(errno, "watch files (inotify)");
  }
  FileWatch watch(absolute, std::move(inotify));
  watch.WatchFolders();
  watch.known_ = watch.IdentityNow();
  return watch;
}

void FileWatch::WatchFolders() {
  std::set<std::string> folders;
  AddFolders(path_, 0, folders);
  std::map<int, std::string> watched;
  for (const std::string& folder : folders) {
    // A file counts once it is written and closed. A link that is switched comes by a rename.
    const int number = inotify_add_watch(inotify_.get(), folder.c_str(),
                                         IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR);
    if (number >= 0) {
      watched[number] = folder;
    }
  }
  for (const auto& [number, folder] : folders_) {
    if (!watched.contains(number)) {
      inotify_rm_watch(inotify_.get(), number);
    }
  }
  folders_ = std::move(watched);
}

FileWatch::Identity FileWatch::IdentityNow() const {
  struct stat file{};
  if (stat(path_.c_str(), &file) != 0) {
    return {};
  }
  return {file.st_dev, file.st_ino, file.st_size, file.st_ctim.tv_sec, file.st_ctim.tv_nsec};
}

void FileWatch::TakeEvents() {
  std::array<char, 16 * (sizeof(inotify_event) + NAME_MAX + 1)> events;
  while (read(inotify_.get(), events.data(), events.size()) > 0) {
  }
}

bool FileWatch::Changed() {
  TakeEvents();
  WatchFolders();
  const Identity now = IdentityNow();
  if (now == Identity() || now == known_) {
    return false;
  }
  known_ = now;
  return true;
}

}  // namespace weightd
