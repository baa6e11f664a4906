#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_TEXT_FILE_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_TEXT_FILE_H_

#include <sys/stat.h>

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace weightd::source {

// Which version of a file was read. Mounted secrets are replaced by another inode (Kubernetes swaps
// a symbolic link) or written in place; whoever writes may set the time of writing back, but not
// that of the change (ctime in inode(7)).
class FileStamp {
 public:
  // `stat` is of what was read from `path`.
  FileStamp(std::string path, const struct stat& stat);
  // Of a file that is not there.
  static FileStamp Missing(std::string path);

  // Whether `path` leads to something else now. One system call.
  bool Changed() const;

 private:
  explicit FileStamp(std::string path) : path_(std::move(path)) {}

  std::string path_;
  bool there_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  off_t size_ = 0;
  timespec modified_ = {};
  timespec changed_ = {};
};

struct TextFile {
  std::string text;
  FileStamp stamp;
};

// The whole file, which is no more than `most_bytes` long. kModelNotFound if there is none, or if
// its folder can't be looked into; kSourceDenied if it may not be read; kInvalidArgument if it is
// too long or no file. Errors name the path and hold nothing of the text.
absl::StatusOr<TextFile> ReadTextFile(const std::string& path, size_t most_bytes = 64 << 10);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_TEXT_FILE_H_
