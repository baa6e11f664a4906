#include "daemon/convert/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

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
  while (!bytes.empty()) {
    const ssize_t written =
        pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written < 0) {
      return CantWrite(errno, path_);
    }
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
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
