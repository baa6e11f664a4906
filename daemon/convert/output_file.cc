#include "daemon/convert/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
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
// Beside a dot and what makes it unique: names of files have at most 255 bytes.
constexpr size_t kMostDraftNameBytes = 100;

absl::Status Exists(const std::string& target) {
  return Error(Reason::kOutputNotCreated, absl::StrCat(target, " exists already"),
               "give another name, or remove it");
}

fs::path ParentOf(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// A folder's names, on disk; nothing is done for a file.
absl::Status FlushFolder(const std::string& path) {
  const Fd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) {
    return errno == ENOTDIR ? absl::OkStatus() : CantWrite(errno, path);
  }
  // Some file systems have nothing to do, and say EINVAL.
  return fsync(folder.get()) == 0 || errno == EINVAL ? absl::OkStatus() : CantWrite(errno, path);
}

// Never replaces anything. 0, or the errno.
int RenameToNew(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
    return 0;
  }
  if (errno != EINVAL && errno != ENOSYS) {
    return errno;
  }
  // File systems that don't know the flag (renameat2(2)): a link to a file doesn't replace anything
  // either, and a folder takes the place of an empty one at most.
  std::error_code error;
  const bool done = fs::is_directory(from, error) ? rename(from.c_str(), to.c_str()) == 0
                                                  : link(from.c_str(), to.c_str()) == 0;
  return done ? 0 : errno;
}

}  // namespace

absl::Status CantWrite(int error_number, const std::string& path) {
  absl::Status cause = ErrnoError(error_number, absl::StrCat("write ", path));
  switch (error_number) {
    case EACCES:
    case EPERM:
    case EROFS:
      return Error(Reason::kOutputNotCreated, cause.message(),
                   "write elsewhere, or as a user who may write there");
    case EEXIST:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENOENT:
    case ENOTDIR:
    case ENOTEMPTY:
      return Error(Reason::kOutputNotCreated, cause.message(), "give another name");
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return cause;
    case ENOSPC:
    case EDQUOT:
      return Error(Reason::kOutputNotWritten, cause.message(), "make room, or write elsewhere");
    case EFBIG:
      return Error(Reason::kOutputNotWritten, cause.message(),
                   "write elsewhere, or several smaller files (--shard-size)");
    default:
      return Error(Reason::kOutputNotWritten, cause.message(),
                   "see what the kernel's log says of the disk, or write elsewhere");
  }
}

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
  const fs::path parent = ParentOf(path);
  if (!fs::is_directory(parent, error)) {
    return Error(Reason::kOutputNotCreated,
                 absl::StrCat(name, " can't be made: there is no folder ", parent.string()),
                 "make the folder, or give another name");
  }
  const std::string short_name = path.filename().string().substr(0, kMostDraftNameBytes);
  std::string folder = (parent / absl::StrCat(".", short_name, ".XXXXXX")).string();
  if (mkdtemp(folder.data()) == nullptr) {
    return CantWrite(errno, name);
  }
  return Draft(std::move(name), std::move(folder));
}

Draft::Draft(Draft&& other) noexcept
    : target_(std::move(other.target_)), folder_(std::exchange(other.folder_, {})) {}

Draft::~Draft() {
  if (!folder_.empty()) {
    std::error_code error;
    fs::remove_all(folder_, error);
  }
}

std::string Draft::path() const { return absl::StrCat(folder_, "/new"); }

absl::Status Draft::CheckRoom(uint64_t bytes) const {
  struct statvfs room{};
  // Some file systems don't know: they are as large as 0 blocks.
  if (statvfs(folder_.c_str(), &room) != 0 || room.f_blocks == 0) {
    return absl::OkStatus();
  }
  const uint64_t free_bytes = uint64_t{room.f_bavail} * room.f_frsize;
  return bytes <= free_bytes
             ? absl::OkStatus()
             : Error(Reason::kOutputNotWritten,
                     absl::StrCat("write ", target_, ": No space left: it would have ", bytes,
                                  " bytes, and the file system has room for ", free_bytes),
                     "make room, or write elsewhere; zeros that a tensorizer file doesn't store "
                     "take room in safetensors");
}

absl::Status Draft::Publish() {
  RETURN_IF_ERROR(FlushFolder(path()));
  if (const int failed = RenameToNew(path(), target_); failed != 0) {
    return failed == EEXIST || failed == ENOTEMPTY ? Exists(target_) : CantWrite(failed, target_);
  }
  return FlushFolder(ParentOf(target_).string());
}

}  // namespace weightd::convert
