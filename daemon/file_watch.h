#ifndef WEIGHTD_DAEMON_FILE_WATCH_H_
#define WEIGHTD_DAEMON_FILE_WATCH_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "absl/status/statusor.h"
#include "common/fd.h"

namespace weightd {

// Tells when a file has been written to its end, replaced by a rename, or is reached through a
// symbolic link that leads elsewhere now (as Kubernetes switches config maps, and editors save).
// Watches the folders on the way to it, so it may be absent for a while; a file that is gone has
// not changed. Nothing is told by file systems of other machines. Not thread-safe.
class FileWatch {
 public:
  static absl::StatusOr<FileWatch> Of(std::string path);

  // Readable while something has happened in those folders that was not taken in.
  int descriptor() const { return inotify_.get(); }
  void TakeEvents();

  // Whether the file isn't what it was at the last call.
  bool Changed();

 private:
  // Which file, and which state of it: device, inode, size, seconds and nanoseconds of its change.
  using Identity = std::tuple<dev_t, ino_t, off_t, int64_t, int64_t>;

  FileWatch(std::string path, Fd inotify) : path_(std::move(path)), inotify_(std::move(inotify)) {}
  void WatchFolders();
  Identity IdentityNow() const;

  std::string path_;
  Fd inotify_;
  // By inotify's number.
  std::map<int, std::string> folders_;
  Identity known_;
};

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_FILE_WATCH_H_
