#include "daemon/convert/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::convert {
namespace {

namespace fs = std::filesystem;

// The page cache takes pages for a write at once. For large ones it would look for large pages,
// which a machine that has been up for long has to make first, or get from its host.
constexpr size_t kStepBytes = 256 << 10;

absl::Status Exists(const std::string& target) {
  return Error(Reason::kInvalidArgument, absl::StrCat(target, " exists already"),
               "give another name, or remove it");
}

absl::Status CantWrite(int error_number, const std::string& path) {
  return error_number == ENOSPC || error_number == EDQUOT
             ? Error(Reason::kSourceUnavailable, absl::StrCat("write ", path, ": no space is left"),
                     "make room, or write elsewhere")
             : ErrnoError(error_number, absl::StrCat("write ", path));
}

}  // namespace

absl::StatusOr<OutputFile> OutputFile::Create(std::string path, uint64_t bytes) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd.valid() || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return CantWrite(errno, path);
  }
  return OutputFile(std::move(path), std::move(fd));
}

absl::Status OutputFile::Write(uint64_t offset, absl::Span<const std::byte> bytes) const {
  const uint64_t begin = offset;
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd_.get(), bytes.data(), std::min(bytes.size(), kStepBytes),
                                   static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written < 0) {
      return CantWrite(errno, path_);
    }
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  // On its way to the disk while the next bytes are made. Where that can't be begun, Flush does
  // all.
  sync_file_range(fd_.get(), static_cast<off64_t>(begin), static_cast<off64_t>(offset - begin),
                  SYNC_FILE_RANGE_WRITE);
  return absl::OkStatus();
}

absl::Status OutputFile::Write(uint64_t offset, absl::string_view bytes) const {
  return Write(offset, {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
}

absl::Status OutputFile::Flush() const {
  return fdatasync(fd_.get()) == 0 ? absl::OkStatus() : CantWrite(errno, path_);
}

absl::StatusOr<Draft> Draft::Beside(const std::string& target) {
  std::string name = target;
  while (name.size() > 1 && absl::EndsWith(name, "/")) {
    name.pop_back();
  }
  std::error_code error;
  if (fs::exists(fs::symlink_status(name, error))) {
    return Exists(name);
  }
  const fs::path path(name);
  std::string draft =
      (path.parent_path() / absl::StrCat(".", path.filename().string(), ".", getpid(), ".part"))
          .string();
  fs::remove_all(draft, error);  // of a process that had our number
  return Draft(std::move(name), std::move(draft));
}

Draft::Draft(Draft&& other) noexcept
    : target_(std::move(other.target_)), path_(std::exchange(other.path_, {})) {}

Draft::~Draft() {
  if (!path_.empty()) {
    std::error_code error;
    fs::remove_all(path_, error);
  }
}

absl::Status Draft::Publish() {
  // RENAME_NOREPLACE in renameat2(2).
  if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) != 0) {
    return errno == EEXIST ? Exists(target_) : CantWrite(errno, target_);
  }
  path_.clear();
  return absl::OkStatus();
}

}  // namespace weightd::convert
