#include "daemon/source/credentials/text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/fd.h"
#include "common/status.h"

namespace weightd::source {
namespace {

bool SameTime(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

absl::Status OpenError(int error_number, const std::string& path) {
  struct stat ignored = {};
  // A daemon without rights to a home folder can't know what lies there, and isn't meant to.
  if (error_number == EACCES && stat(path.c_str(), &ignored) != 0) {
    error_number = ENOENT;
  }
  return ErrnoError(error_number, path);
}

}  // namespace

FileStamp::FileStamp(std::string path, const struct stat& stat)
    : path_(std::move(path)),
      there_(true),
      device_(stat.st_dev),
      inode_(stat.st_ino),
      size_(stat.st_size),
      modified_(stat.st_mtim),
      changed_(stat.st_ctim) {}

FileStamp FileStamp::Missing(std::string path) { return FileStamp(std::move(path)); }

bool FileStamp::Changed() const {
  struct stat now = {};
  if (stat(path_.c_str(), &now) != 0) {
    return there_;
  }
  return !there_ || now.st_dev != device_ || now.st_ino != inode_ || now.st_size != size_ ||
         !SameTime(now.st_mtim, modified_) || !SameTime(now.st_ctim, changed_);
}

absl::StatusOr<TextFile> ReadTextFile(const std::string& path, size_t most_bytes) {
  // A pipe that nobody writes to must not hold us.
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!file.valid()) {
    return OpenError(errno, path);
  }
  struct stat about = {};
  if (fstat(file.get(), &about) != 0) {
    return ErrnoError(errno, path);
  }
  // /dev/null is how a file is switched off.
  if (!S_ISREG(about.st_mode) && !S_ISCHR(about.st_mode)) {
    return Error(Reason::kInvalidArgument, absl::StrCat(path, ": not a regular file"));
  }
  TextFile result = {.text = std::string(most_bytes + 1, '\0'), .stamp = FileStamp(path, about)};
  size_t filled = 0;
  while (filled < result.text.size()) {
    const ssize_t bytes = read(file.get(), result.text.data() + filled, most_bytes + 1 - filled);
    if (bytes < 0 && errno == EINTR) {
      continue;
    }
    if (bytes < 0) {
      return ErrnoError(errno, path);
    }
    if (bytes == 0) {
      break;
    }
    filled += bytes;
  }
  if (filled > most_bytes) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat(path, ": longer than ", most_bytes, " bytes"));
  }
  result.text.resize(filled);
  return result;
}

}  // namespace weightd::source
